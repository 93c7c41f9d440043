"""Wires the proxy from a Config: knows that everything exists, and does none of it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger

from esxiproxy.app.extra_services import ExtraServices
from esxiproxy.app.listeners import Listeners
from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.startup import StartupError
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.ops.logs.session_log import SessionLog
from esxiproxy.ops.process.descriptors import Descriptors
from esxiproxy.ops.process.loop_lag import LoopLag
from esxiproxy.ops.process.systemd import SystemdService
from esxiproxy.plugins import AUTHENTICATORS, ROUTERS, plugin
from esxiproxy.proxy import Proxy
from esxiproxy.state.factory import open_state

_STOP_TIMEOUT = 2.0
"""Seconds that a service gets to stop when the end is to be at once."""
_DRAIN_GRACE = 3.0
"""Seconds that a stop may take longer than the drain, before it is to be at once."""
_NOT_RELOADABLE = ("state", "workers")
"""What a running process does not change."""


class ProxyService(MultiService):
    """The proxy of a configuration, its listeners, and the services that run beside it.

    ``stopService`` closes the listeners, then drains the sessions, then stops the rest, the logs last.  A
    listener with a health check is closed after the drain.  The stop has its time as well: after that it
    waits for nobody who does not stop.
    ``inherited`` has sockets that listen already, by the listener's name, the manhole's as ``MANHOLE``: they
    go on listening for whoever shares them.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        inherited: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._reactor = reactor = with_fast_transports(reactor)
        self._config = config
        self._turn = DeferredLock()
        self._stopping: Deferred[Any] = succeed(None)
        self._aborted = False
        self._descriptors = descriptors = Descriptors()
        descriptors.raise_limit()
        self._extra_services = ExtraServices(reactor, lambda: self.proxy.sessions, inherited)
        state = open_state(config.state, reactor, reactor)
        room = descriptors.may_admit
        self._session_log = SessionLog(reactor.seconds, config.session_log)
        observers = [self._session_log, self._extra_services]
        self.proxy = Proxy(reactor, observers, config.limits, config.quotas, state, room, config.workers)
        self._listeners = Listeners(
            reactor, inherited, lambda: descriptors.may_accept(self.proxy.admission.dialling)
        )
        self.systemd = SystemdService(reactor, status=lambda: f"{len(self.proxy.sessions)} sessions")
        self._loop_lag = LoopLag(reactor)
        for service in (self._extra_services, self._loop_lag, self.proxy, self._listeners, self.systemd):
            service.setServiceParent(self)
        self.proxy.renew(config.upstreams.values())
        self._listeners.bind(config.listeners, partial(self._factory, config), AsyncExitStack())
        self._extra_services.create(config)

    def _factory(self, config: Config, listener: Listener) -> Any:
        return self.proxy.listener(
            listener.name,
            router=plugin(ROUTERS, listener.router)(config, listener),
            authenticator=plugin(AUTHENTICATORS, listener.authenticator)(config, listener),
            limits=listener.limits,
            tls=listener.tls,
            policy=listener.edge,
            connection_limits=listener.quotas,
        )

    def reload(self, config: Config) -> Deferred[None]:
        """Go on with this configuration: who comes from now on finds it, who is here keeps what there was.

        Files are read again, sockets that are still wanted are kept, and nothing ends a console.  Fails when
        something cannot be read, made or bound, and then everything is as it was.  One that comes while
        another one goes on waits.
        """
        return self._turn.run(lambda: Deferred.fromCoroutine(self._reload(config)))

    async def _reload(self, config: Config) -> None:
        if not self.running:
            raise StartupError("the proxy does not run")
        self.proxy.renew(config.upstreams.values())
        async with AsyncExitStack() as undo:
            bound = self._listeners.bind(config.listeners, partial(self._factory, config), undo)
            places = await self._extra_services.start(config, undo)
            undo.pop_all()
        self.proxy.limits, self.proxy.connection_limits = config.limits, config.quotas
        self._session_log.filter = config.session_log
        self._listeners.serve(bound)
        self.proxy.sessions.start_epoch()
        self._config = self._lasting(config)
        self._warn()
        await self._extra_services.commit(places, config)
        await self._listeners.close_others(bound)

    def _warn(self) -> None:
        """Log the warnings on the configuration that is in force."""
        for warning in self._config.warnings:
            self._log.warn("{problem}", problem=warning)

    def _lasting(self, config: Config) -> Config:
        """This configuration with that in it which stays as it was at the start."""
        stays = {key: getattr(self._config, key) for key in _NOT_RELOADABLE}
        for key, value in stays.items():
            if getattr(config, key) != value:
                text = "has changed, which takes a restart; everything else is taken over"
                self._log.warn("{problem}", problem=config.problem("proxy", key, text))
        return replace(config, **stays)

    def retire(self) -> Deferred[None]:
        """Accept nobody any more, since another process does, and fire when the last who is here has gone.

        Sockets that were inherited go on listening.  Consoles that are left after ``upgrade_timeout`` are
        closed as at the end of a drain.
        """
        return Deferred.fromCoroutine(self._retire())

    async def _retire(self) -> None:
        await maybeDeferred(cast(Any, self._listeners.stopService))
        await self.proxy.retire(self._config.upgrade_timeout)

    def close_ports(self) -> Deferred[Any]:
        """Close every listener and the manhole; the sessions stay open."""
        return DeferredList([maybeDeferred(self._listeners.stopService), self._extra_services.stop_manhole()])

    @property
    def draining_ports(self) -> list[IListeningPort]:
        """The ports that go on accepting in a drain."""
        return [service.port for service in self._listeners.draining if service.port is not None]

    def startService(self) -> None:
        self._aborted = False
        self._warn()
        super().startService()
        self._descriptors.check_started()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def abort(self) -> None:
        """End a stop at once: every session now, and every service that is still to stop soon."""
        self._aborted = True
        self.proxy.abort()
        self._abort_stop()

    async def _stop(self) -> None:
        Service.stopService(self)
        limits = self.proxy.limits
        seconds = limits.drain_timeout + limits.close_timeout + _DRAIN_GRACE
        self.systemd.stopping(seconds)
        overtime: IDelayedCall = self._reactor.callLater(seconds, self._on_stop_timeout, seconds)
        await self._step(lambda: Deferred.fromCoroutine(self._listeners.drain()))
        await self._step(partial(self._turn.run, lambda: None))  # a reload that goes on
        for service in (self.proxy, self._listeners, self._extra_services, self._loop_lag, self.systemd):
            await self._step(service.stopService)
        if overtime.active():
            overtime.cancel()

    def _on_stop_timeout(self, seconds: float) -> None:
        self._log.error("the end takes longer than {seconds:g} s: at once, then", seconds=seconds)
        self.abort()

    async def _step(self, step: Any) -> None:
        """One step of the stop: it may take its time, unless the end is to be at once."""
        self._stopping = maybeDeferred(step)
        if self._aborted:
            self._abort_stop()
        try:
            await self._stopping
        except CancelledError:
            self._log.warn("the end does not wait for {step!r}", step=step)
        except Exception:
            self._log.failure("stopping failed, and goes on with the rest")

    def _abort_stop(self) -> None:
        self._stopping.addTimeout(
            _STOP_TIMEOUT, self._reactor, onTimeoutCancel=lambda _result, _timeout: None
        )

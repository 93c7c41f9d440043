"""Builds the proxy, its listeners and its extra services from a Config, and starts and stops them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

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
from twisted.python.failure import Failure

from esxiproxy.app.admin import AdminSlot
from esxiproxy.app.control import SingleControl
from esxiproxy.app.extra_services import ExtraServices
from esxiproxy.app.listeners import Listeners
from esxiproxy.app.lost_sessions import LostSessions
from esxiproxy.app.manhole import ManholeParts
from esxiproxy.app.metering import Metering
from esxiproxy.app.plugins import Instances, Plugins
from esxiproxy.app.reload import Reload
from esxiproxy.app.reporter import Reporter
from esxiproxy.app.session_tally import SessionTally
from esxiproxy.app.ticket_filters import ticket_filters
from esxiproxy.core.config.loader import Config, Listener
from esxiproxy.core.http.policy import Http
from esxiproxy.core.http.portal import portal_destination
from esxiproxy.core.private_sites import PORTAL, PrivateSites
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.startup import StartupError
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.ops.logs.session_log import SessionLog
from esxiproxy.ops.manhole.directory import SessionDirectory
from esxiproxy.ops.metrics.files import ENVIRONMENT as METRICS_FOLDER
from esxiproxy.ops.process.descriptors import Descriptors
from esxiproxy.ops.process.loop_lag import LoopLag
from esxiproxy.ops.process.systemd import SystemdService
from esxiproxy.proxy import Proxy
from esxiproxy.state.factory import descriptors_of, open_state
from esxiproxy.web.client import HttpClient

if TYPE_CHECKING:
    from esxiproxy.admin.service import AdminParts
    from esxiproxy.app.admin import BoundAdmin

_STOP_TIMEOUT = 2.0
"""Seconds within which each service has to stop after an abort."""
_DRAIN_GRACE = 3.0
"""Seconds by which a stop may exceed the drain before it is aborted."""
_NOT_RELOADABLE = ("state", "workers")
"""The keys that a reload cannot change."""


class ProxyService(MultiService):
    """The proxy of a configuration, its listeners, and its extra services.

    ``stopService`` closes the listeners, drains the sessions and then stops all other services.  A listener
    with a health check is closed after the drain.  When the stop takes too long, it is aborted.
    ``inherited`` has listening sockets by the listener's name, and that of the manhole as ``MANHOLE``.  They
    are not shut down at the end, since other processes may share them.
    ``identity`` names the process among those that share the state, by default one without a master.
    ``shell_socket`` is the path of the manhole's private socket in a worker whose admin process serves the
    manhole.  ``sites`` are those of the admin process, None without a master.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        inherited: Mapping[str, socket.socket] = MappingProxyType({}),
        identity: ProcessIdentity | None = None,
        shell_socket: Path | None = None,
        sites: PrivateSites | None = None,
    ) -> None:
        super().__init__()
        self._portal = None if sites is None else portal_destination(str(sites.newest(PORTAL)))
        self._reactor = reactor = with_fast_transports(reactor)
        self._config = config
        self.identity = identity or ProcessIdentity(config.machine or socket.gethostname())
        self._lock = DeferredLock()
        self._stopping: Deferred[Any] = succeed(None)
        self._aborted = False
        self._descriptors = descriptors = Descriptors()
        descriptors.raise_limit()
        manhole = ManholeParts(
            reactor,
            lambda: self.proxy.sessions,
            lambda: SessionDirectory(self.proxy.state, self.identity),
            lambda: self.control,
            lambda: self._config,
            inherited,
            shell_socket,
        )
        self._extra_services = ExtraServices(reactor, manhole)
        state = open_state(config.state, reactor, reactor)
        self._session_log = SessionLog(reactor.seconds, config.session_log)
        has_descriptors = descriptors.may_admit
        tally = SessionTally()
        self.metering = Metering(lambda: self.proxy.sessions, reactor)
        if config.admin is not None or METRICS_FOLDER in os.environ:
            self.metering.begin()
        observers = [self._session_log, self._extra_services, tally, self.metering]
        self.proxy = Proxy(
            reactor,
            observers,
            config.limits,
            config.connection_limits,
            state,
            has_descriptors,
            config.workers,
            identity=self.identity,
        )
        self._listeners = Listeners(
            reactor, inherited, lambda: descriptors.may_accept(self.proxy.admission.dialling)
        )
        self.proxy.own_addresses = self._listeners.addresses
        self.systemd = SystemdService(reactor, status=lambda: f"{len(self.proxy.sessions)} sessions")
        path = config.source.absolute()
        self.reload_file = Reload(path, self, reactor)
        self.control = SingleControl(
            self.identity,
            state,
            path,
            lambda: self._config,
            lambda: not self.running,
            self.reload_file,
            reactor,
        )
        self._loop_lag = LoopLag(reactor, self.metering.lagged)
        self._http = HttpClient(reactor)
        self._plugins = Plugins(reactor, self.proxy, self._http, sites)
        self.ready: Deferred[bool] = succeed(False)
        """Fires with True when all plugins of the first configuration are ready, and else with False."""
        self._reporter = Reporter(
            self.proxy,
            tally,
            self.identity,
            reactor,
            version("esxiproxy"),
            self._loop_lag.take_longest,
            watch_metrics=self.metering.watch,
        )
        self._lost_sessions = LostSessions(state, self.proxy.sessions.record_lost, reactor)
        if config.state is not None:
            self._lost_sessions.setServiceParent(self)
        self.proxy.before_state_stops = self._before_state_stops
        self._admin = AdminSlot(reactor, self._admin_parts, inherited)
        services: tuple[Any, ...] = (
            self._extra_services,
            self._loop_lag,
            self.metering,
            self.proxy,
            self._reporter,
            self._plugins,
            self._admin,
        )
        for service in (*services, self._listeners, self.systemd):
            service.setServiceParent(self)
        self.proxy.renew(config.upstreams.values())
        instances = self._plugins.create(config)
        self._plugins.begin(instances)
        self._listeners.bind(config.listeners, partial(self._factory, instances), AsyncExitStack())
        self._extra_services.create(config)
        self._admin.serve(self._bind_admin(config, instances, AsyncExitStack()), config)

    async def _before_state_stops(self) -> None:
        await self._lost_sessions.finish()
        await self._reporter.last_report()

    def _admin_parts(self) -> AdminParts:
        from esxiproxy.app.admin_parts import admin_parts  # which needs packages of the extra `admin`

        return admin_parts(self.control, self.proxy.drains, self._exposed_metrics, self._reactor)

    async def _exposed_metrics(self, accept: str, extra: Any) -> tuple[str, bytes]:
        """Return the metrics of this process."""
        from esxiproxy.ops.metrics.exposition import expose

        exposing: Deferred[tuple[str, bytes]] = self.control.in_thread(
            expose, self.metering.metrics, accept, extra
        )
        return await exposing

    def _bind_admin(self, config: Config, instances: Instances, undo: AsyncExitStack) -> BoundAdmin:
        plugins = {section: instance.plugin for section, instance in instances.items()}
        return self._admin.bind(config, plugins, undo)

    def _factory(self, instances: Instances, listener: Listener) -> Any:
        routers, authenticators = self._plugins.of(instances, listener)
        return self.proxy.listener(
            listener.name,
            router=routers,
            authenticator=authenticators,
            limits=listener.limits,
            tls=listener.tls,
            policy=listener.policy,
            connection_limits=listener.connection_limits,
            portal=self._portal if listener.http is Http.PORTAL else None,
            answer_filters=ticket_filters(listener, self.proxy.state),
        )

    def reload(self, config: Config) -> Deferred[None]:
        """Use this configuration for new connections; open sessions keep the old one.

        Certificates and other files are read again.  Sockets of unchanged endpoints are kept.  When something
        cannot be read, created or bound, nothing changes and the Deferred fails.  Concurrent reloads are
        serialised.
        """
        return self._lock.run(lambda: Deferred.fromCoroutine(self._reload(config)))

    async def _reload(self, config: Config) -> None:
        """Start everything that the configuration adds, and only then replace and end what it removes."""
        if not self.running:
            raise StartupError("the proxy is not running")
        before = self.proxy.renew(config.upstreams.values())
        async with AsyncExitStack() as undo:
            undo.callback(self.proxy.restore, before)
            instances = self._plugins.create(config)
            await self._plugins.start(instances, undo)
            bound = self._listeners.bind(config.listeners, partial(self._factory, instances), undo)
            bound_admin = self._bind_admin(config, instances, undo)
            slots = await self._extra_services.start(config, undo)
            undo.pop_all()
        if config.admin is not None:
            self.metering.begin()
        self.proxy.limits, self.proxy.connection_limits = config.limits, config.connection_limits
        self._session_log.filter = config.session_log
        self._listeners.serve(bound)
        self._plugins.commit(instances, _opening_time(self._config))
        self.proxy.sessions.start_epoch()
        self._config = self._with_fixed_keys(config)
        self._warn()
        self._admin.serve(bound_admin, self._config)
        await self._extra_services.commit(slots)
        await self._listeners.close_others(bound)
        self._admin.close_others(bound_admin)

    def _warn(self) -> None:
        """Log the warnings on the current configuration."""
        for warning in self._config.warnings:
            self._log.warn("{problem}", problem=warning)

    def _with_fixed_keys(self, config: Config) -> Config:
        """Return the configuration with the values of the start for the keys that a reload cannot change."""
        fixed = {key: getattr(self._config, key) for key in _NOT_RELOADABLE}
        for key, value in fixed.items():
            if getattr(config, key) != value:
                text = "has changed, which takes a restart; all other changes are in force"
                self._log.warn("{problem}", problem=config.problem("proxy", key, text))
        for name in config.vspheres:  # a configuration with such a section starts with a master
            text = (
                "needs the admin process of a master, which takes a restart; all other changes are in force"
            )
            self._log.warn("{problem}", problem=config.problem(f"vsphere {name}", None, text))
        return replace(config, **fixed)

    def retire(self) -> Deferred[None]:
        """Stop accepting, since a new process accepts; the Deferred fires when the last session has ended.

        Inherited sockets are not shut down.  Consoles that are open after
        ``worker_shutdown_timeout`` are closed as at the end of a drain.
        """
        return Deferred.fromCoroutine(self._retire())

    async def _retire(self) -> None:
        await maybeDeferred(cast(Any, self._listeners.stopService))
        await self.proxy.retire(self._config.worker_shutdown_timeout)

    def close_ports(self) -> Deferred[Any]:
        """Close every listener and the manhole; the sessions stay open."""
        return DeferredList([maybeDeferred(self._listeners.stopService), self._extra_services.stop_manhole()])

    @property
    def draining_ports(self) -> list[IListeningPort]:
        """The ports that accept during a drain, since they have a health check."""
        return [service.port for service in self._listeners.draining if service.port is not None]

    def startService(self) -> None:
        self._aborted = False
        self._warn()
        super().startService()
        self.ready = Deferred.fromCoroutine(self._plugins.ready())
        self.ready.addErrback(self._on_start_failed)
        self._descriptors.check_started(descriptors_of(self._config.state))

    def _on_start_failed(self, failure: Failure) -> bool:
        """End the process: a plugin of the first configuration is not ready."""
        if failure.check(StartupError):
            self._log.critical("{error}: the process ends", error=failure.value)
        else:
            self._log.failure("the start failed: the process ends", failure)
        if self.running:
            self._reactor.callLater(0, self._reactor.stop)
        return False

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def abort(self) -> None:
        """Abort a stop: close all sessions, and wait at most 2 s for each service that has yet to stop."""
        self._aborted = True
        self.proxy.abort()
        self._abort_stop()

    async def _stop(self) -> None:
        """Drain the listeners, and stop all services in an order that loses no record."""
        Service.stopService(self)
        limits = self.proxy.limits
        seconds = limits.drain_timeout + limits.close_timeout + _DRAIN_GRACE
        self.systemd.stopping(seconds)
        abort_timer: IDelayedCall = self._reactor.callLater(seconds, self._on_stop_timeout, seconds)
        await self._step("the listeners", lambda: Deferred.fromCoroutine(self._listeners.drain()))
        await self._step("a reload", partial(self._lock.run, lambda: None))  # wait for a reload in progress
        for service in (
            self.proxy,
            self._reporter,
            self._lost_sessions,
            self._admin,
            self._listeners,
            self._plugins,
            self._extra_services,
            self._loop_lag,
            self.metering,
            self.systemd,
        ):
            await self._step(type(service).__name__, service.stopService)
        await self._step("the HTTP client", self._http.close)
        if abort_timer.active():
            abort_timer.cancel()

    def _on_stop_timeout(self, seconds: float) -> None:
        self._log.error("the stop takes longer than {seconds:g} s and is aborted", seconds=seconds)
        self.abort()

    async def _step(self, name: str, step: Callable[[], Any]) -> None:
        """Wait for one step of the stop, for at most 2 s after an abort; log the error if it fails."""
        self._stopping = maybeDeferred(step)
        if self._aborted:
            self._abort_stop()
        try:
            await self._stopping
        except CancelledError:
            self._log.warn("timed out waiting for {name} to stop; the stop continues without it", name=name)
        except Exception:
            self._log.failure("cannot stop {name}; the stop continues without it", name=name)

    def _abort_stop(self) -> None:
        self._stopping.addTimeout(
            _STOP_TIMEOUT, self._reactor, onTimeoutCancel=lambda _result, _timeout: None
        )


def _opening_time(config: Config) -> float:
    """Return the seconds from an accepted connection to its first request, at most, over all listeners."""
    limits = [listener.limits for listener in config.listeners]
    # The PROXY header has a head_timeout of its own.
    return max((each.tls_handshake_timeout + 2 * each.head_timeout for each in limits), default=0.0)

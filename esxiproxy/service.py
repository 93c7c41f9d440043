"""Wires the proxy from a Config: knows that everything exists, and does none of it."""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred

from esxiproxy.core.config import Config, Listener
from esxiproxy.core.listening import Manhole
from esxiproxy.net.listener import ListenerService
from esxiproxy.net.transport.reactor import streaming
from esxiproxy.ops.accesslog import AccessLog
from esxiproxy.ops.descriptors import Descriptors
from esxiproxy.ops.looplag import LoopLag
from esxiproxy.ops.manhole import ManholeService
from esxiproxy.ops.sessionlog import SessionLog
from esxiproxy.ops.systemd import SystemdService
from esxiproxy.proxy import Proxy
from esxiproxy.registry import AUTHENTICATORS, ROUTERS, SERVICES, plugin
from esxiproxy.state.opening import open_state


class ProxyService(MultiService):
    """The proxy of a configuration, its listeners, and the services that run beside it.

    ``stopService`` closes the listeners, then drains the sessions, then stops the rest, the logs last.
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        super().__init__()
        reactor = streaming(reactor)
        descriptors = Descriptors()
        descriptors.raise_limit()
        self._logs, self._listeners, self._beside = MultiService(), MultiService(), MultiService()
        observers: list[Any] = [SessionLog()]
        if config.access_log is not None:
            access_log = AccessLog(config.access_log, reactor)
            access_log.setServiceParent(self._logs)
            observers.append(access_log)
        state = open_state(config.state, reactor)
        room = descriptors.may_admit
        self.proxy = Proxy(reactor, observers, config.limits, config.quotas, state, room)
        self._systemd = SystemdService(reactor, status=lambda: f"{len(self.proxy.sessions)} sessions")
        for service in (self._logs, self.proxy, self._listeners, self._beside, self._systemd):
            service.setServiceParent(self)
        LoopLag(reactor).setServiceParent(self._logs)
        for upstream in config.upstreams.values():
            self.proxy.prepare(upstream)
        for listener in config.listeners:
            factory = self._factory(config, listener)
            bound = ListenerService(listener.name, listener.endpoint, factory, reactor)
            bound.setServiceParent(self._listeners)
        for name in config.beside:
            plugin(SERVICES, name)(config, reactor).setServiceParent(self._beside)
        if config.manhole is not None:
            self._manhole(config.manhole, config, reactor).setServiceParent(self._beside)

    def _manhole(self, manhole: Manhole, config: Config, reactor: Any) -> ManholeService:
        return ManholeService(
            manhole.endpoint,
            manhole.keys,
            manhole.host_key,
            self.proxy.sessions,
            reactor,
            config.upstreams.values,
        )

    def _factory(self, config: Config, listener: Listener) -> Any:
        return self.proxy.listener(
            listener.name,
            router=plugin(ROUTERS, listener.router)(config, listener),
            authenticator=plugin(AUTHENTICATORS, listener.authenticator)(config, listener),
            limits=listener.limits,
            tls=listener.tls,
            edge=listener.edge,
            quotas=listener.quotas,
        )

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        Service.stopService(self)
        limits = self.proxy.limits
        self._systemd.stopping(limits.drain_timeout + limits.close_timeout + 1.0)
        for service in (self._listeners, self.proxy, self._beside, self._logs, self._systemd):
            stopping = service.stopService()
            if stopping is not None:
                await stopping

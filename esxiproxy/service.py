"""Wires the proxy from a Config: knows that everything exists, and does none of it."""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred

from esxiproxy.core.config import Config, Listener
from esxiproxy.net.listener import ListenerService
from esxiproxy.net.transport.reactor import streaming
from esxiproxy.ops.manhole import ManholeService
from esxiproxy.ops.sessionlog import SessionLog
from esxiproxy.proxy import Proxy
from esxiproxy.registry import AUTHENTICATORS, ROUTERS, SERVICES, plugin


class ProxyService(MultiService):
    """The proxy of a configuration, its listeners, and the services that run beside it.

    ``stopService`` closes the listeners, then drains the sessions, then stops the rest.
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        super().__init__()
        reactor = streaming(reactor)
        self.proxy = Proxy(reactor, [SessionLog()], config.limits)
        self.proxy.setServiceParent(self)
        for upstream in config.upstreams.values():
            self.proxy.prepare(upstream)
        self._listeners = MultiService()
        self._listeners.setServiceParent(self)
        for listener in config.listeners:
            factory = self._factory(config, listener)
            service = ListenerService(listener.name, listener.endpoint, factory, reactor)
            service.setServiceParent(self._listeners)
        self._beside = MultiService()
        for name in config.beside:
            plugin(SERVICES, name)(config, reactor).setServiceParent(self._beside)
        if (manhole := config.manhole) is not None:
            upstreams = config.upstreams.values
            sessions = self.proxy.sessions
            ManholeService(
                manhole.endpoint, manhole.keys, manhole.host_key, sessions, reactor, upstreams
            ).setServiceParent(self._beside)
        self._beside.setServiceParent(self)

    def _factory(self, config: Config, listener: Listener) -> Any:
        return self.proxy.listener(
            listener.name,
            router=plugin(ROUTERS, listener.router)(config, listener),
            authenticator=plugin(AUTHENTICATORS, listener.authenticator)(config, listener),
            limits=listener.limits,
            tls=listener.tls,
            edge=listener.edge,
        )

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        Service.stopService(self)
        for service in (self._listeners, self.proxy, self._beside):
            stopping = service.stopService()
            if stopping is not None:
                await stopping

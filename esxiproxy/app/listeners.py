"""The listeners of the current configuration, which a reload replaces."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from esxiproxy.binding import match_endpoints
from esxiproxy.core.config.model import Listener
from esxiproxy.net.listener.service import ListenerService

BoundListeners = Sequence[tuple[Listener, ListenerService, Any]]
"""A listener, its port, and the factory for its connections."""


class Listeners(MultiService):
    """The ports of all listeners.

    ``inherited`` has listening sockets by the listener's name, which are used instead of binding a new one.
    ``has_descriptors`` returns whether a file descriptor is left for one more client.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        inherited: Mapping[str, socket.socket],
        has_descriptors: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._has_descriptors = has_descriptors
        self._inherited = inherited

    def bind(
        self, listeners: Sequence[Listener], factory: Callable[[Listener], Any], undo: AsyncExitStack
    ) -> BoundListeners:
        """Return each listener with its port, which is an existing one of the same endpoint or a new one.

        A unix socket whose file was removed is bound again.
        The existing ports keep their factories until ``serve``.  ``undo`` collects what has to be done if the
        reload fails.  Raises the error of a factory that cannot be created, or BindError.
        """
        ports = [port for port in cast(Iterable[ListenerService], self) if not port.is_removed]
        existing = [(port.label, port.endpoint, port) for port in ports]
        kept = match_endpoints([(listener.name, listener.endpoint) for listener in listeners], existing)
        bound = [(listener, kept.get(listener.name), factory(listener)) for listener in listeners]
        return [
            (listener, port or self._new(listener, served, undo), served) for listener, port, served in bound
        ]

    def serve(self, bound: BoundListeners) -> None:
        """Use these factories for new connections; open connections keep theirs."""
        for listener, port, factory in bound:
            port.label = listener.name
            port.answers_health = listener.health is not None
            port.serve(factory)

    @property
    def draining(self) -> Sequence[ListenerService]:
        """The ports with a health check, which accept during a drain."""
        return [port for port in cast(Iterable[ListenerService], self) if port.answers_health]

    def addresses(self) -> Collection[tuple[str, int]]:
        """Return the IP addresses and ports that the listeners have bound."""
        bound = [
            port.port.getHost() for port in cast(Iterable[ListenerService], self) if port.port is not None
        ]
        return [(host.host, host.port) for host in bound if isinstance(host, IPv4Address | IPv6Address)]

    async def drain(self) -> None:
        """Close the ports without a health check; the others answer health checks and refuse sessions."""
        for port in cast(Iterable[ListenerService], self):
            if not port.answers_health:
                await maybeDeferred(cast(Any, port.stopService))

    async def close_others(self, bound: BoundListeners) -> None:
        """Close all other ports, and keep their open connections."""
        ports = [port for _, port, _ in bound]
        for unused in [port for port in self if port not in ports]:
            await self._drop(unused)

    def _new(self, listener: Listener, factory: Any, undo: AsyncExitStack) -> ListenerService:
        socket = self._inherited.get(listener.name)
        port = ListenerService(
            listener.name, listener.endpoint, factory, self._reactor, socket, self._has_descriptors
        )
        port.answers_health = listener.health is not None
        undo.push_async_callback(self._drop, port)
        port.setServiceParent(self)
        return port

    async def _drop(self, port: ListenerService) -> None:
        if port.port is not None:
            self._log.info(
                "listener {name} stopped listening on {address}", name=port.label, address=port.address()
            )
        await maybeDeferred(cast(Any, port.disownServiceParent))

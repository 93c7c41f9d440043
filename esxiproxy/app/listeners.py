"""The listeners of a configuration, which may be exchanged for those of another one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from esxiproxy.binding import match_endpoints
from esxiproxy.core.config.model import Listener
from esxiproxy.net.listener.service import ListenerService

Bound = Sequence[tuple[Listener, ListenerService, Any]]
"""Each listener with its port, and the factory that is to be served there."""


class Listeners(MultiService):
    """Binds listeners while it runs.

    ``inherited`` has sockets that listen already, by the listener's name: those are served in place of bound.
    ``room`` is asked whether there is a descriptor for one more client.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, inherited: Mapping[str, socket.socket], room: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._has_descriptors = room
        self._inherited = inherited

    def bind(
        self, listeners: Sequence[Listener], factory: Callable[[Listener], Any], undo: AsyncExitStack
    ) -> Bound:
        """Have a port for each of these listeners: a bound one that has its endpoint, or else a new one.

        What is served on the bound ones does not change yet.  Raises what cannot be made, read or bound.
        """
        there = [(port.label, port.endpoint, port) for port in cast(Iterable[ListenerService], self)]
        stay = match_endpoints([(listener.name, listener.endpoint) for listener in listeners], there)
        bound = [(listener, stay.get(listener.name), factory(listener)) for listener in listeners]
        return [
            (listener, port or self._new(listener, served, undo), served) for listener, port, served in bound
        ]

    def serve(self, bound: Bound) -> None:
        """From the next connection on serve this."""
        for listener, port, factory in bound:
            port.label = listener.name
            port.answers_health = listener.health is not None
            port.serve(factory)

    @property
    def draining(self) -> Sequence[ListenerService]:
        """The ports that go on accepting in a drain: those with a health check."""
        return [port for port in cast(Iterable[ListenerService], self) if port.answers_health]

    async def drain(self) -> None:
        """Close the ports without a health check; the others refuse new sessions and say why."""
        for port in cast(Iterable[ListenerService], self):
            if not port.answers_health:
                await maybeDeferred(cast(Any, port.stopService))

    async def close_others(self, bound: Bound) -> None:
        """Close the ports that are not among these; who came in through them stays."""
        ports = [port for _, port, _ in bound]
        for gone in [port for port in self if port not in ports]:
            await self._drop(gone)

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
            self._log.info("listener {name} on {address} is closed", name=port.label, address=port.address())
        await maybeDeferred(cast(Any, port.disownServiceParent))

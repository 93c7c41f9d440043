"""The open TCP connections of a host: counted over both ports and refused above the limit."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory


class Connections:
    """The open connections of one host."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.peak = 0
        self.refused = 0
        self._limit = limit
        self._open: set[ProtocolWrapper] = set()
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether the next connection is refused."""
        return 0 < self._limit <= len(self._open)

    def enter(self, connection: ProtocolWrapper) -> None:
        """Add an accepted connection."""
        self._open.add(connection)
        self.total += 1
        self.peak = max(self.peak, len(self._open))

    def leave(self, connection: ProtocolWrapper) -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        if not self._open:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def abort_all(self) -> Deferred[None]:
        """Abort all connections; the Deferred fires when the last one is closed."""
        if not self._open:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        for connection in tuple(self._open):
            # Twisted's type stubs do not declare this method of a wrapper.
            wrapper: Any = connection
            wrapper.abortConnection()
        return gone


class ConnectionLimiter(WrappingFactory[ProtocolWrapper]):
    """A port's factory below TLS, so that a connection counts from its accept() on."""

    noisy = False

    def __init__(self, inside: IProtocolFactory, connections: Connections) -> None:
        super().__init__(inside)
        self._connections = connections

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]
        if self._connections.full:
            self._connections.refused += 1
            # Twisted closes the accepted socket at once.
            return None
        return super().buildProtocol(addr)

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        super().registerProtocol(p)
        self._connections.enter(p)

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        super().unregisterProtocol(p)
        self._connections.leave(p)


class SilentProtocol(Protocol):
    """A protocol that ignores all bytes and sends none."""


class SilentFactory(Factory):
    """The factory of a host that accepts connections and stays silent."""

    noisy = False
    protocol = SilentProtocol

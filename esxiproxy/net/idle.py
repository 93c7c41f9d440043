"""HTTP connections that are kept in case of a next request, by the host that they lead to."""

from __future__ import annotations

from typing import Protocol

from esxiproxy.core.routing import Upstream


class Idle(Protocol):
    """A connection that nobody uses."""

    upstream: Upstream
    lost: bool

    def abort(self) -> None:
        """Close it at once."""


class IdleConnections:
    """They count as connections of their host: one that is in the way of somebody else is closed."""

    def __init__(self) -> None:
        self._by_host: dict[str, dict[Idle, None]] = {}

    def add(self, connection: Idle) -> None:
        """It is idle from now on."""
        self._by_host.setdefault(connection.upstream.host.lower(), {})[connection] = None

    def discard(self, connection: Idle) -> None:
        """It is in use, or gone."""
        host = connection.upstream.host.lower()
        idle = self._by_host.get(host, {})
        idle.pop(connection, None)
        if not idle:
            self._by_host.pop(host, None)

    def has(self, host: str) -> bool:
        """Whether one of them leads to this host."""
        return any(not connection.lost for connection in self._by_host.get(host.lower(), ()))

    def close_one(self, host: str) -> None:
        """Close the one that has been idle for longest."""
        for connection in list(self._by_host.get(host.lower(), ())):
            self.discard(connection)
            if not connection.lost:
                connection.abort()
                return

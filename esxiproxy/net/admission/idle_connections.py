"""Idle upstream HTTP connections, indexed by the limits that count them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Idle(Protocol):
    """An upstream HTTP connection that no request uses."""

    lost: bool

    @property
    def claim_names(self) -> tuple[str, ...]:
        """The names of the claims that the connection holds."""

    def abort(self) -> None:
        """Close the connection immediately."""


class IdleConnections:
    """The idle connections of one process, which are closed when another session needs their slot."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Idle, None]] = {}

    def add(self, connection: Idle) -> None:
        """Add a connection that has become idle."""
        for name in connection.claim_names:
            self._by_name.setdefault(name, {})[connection] = None

    def discard(self, connection: Idle) -> None:
        """Remove a connection that is in use again, or closed."""
        for name in connection.claim_names:
            idle = self._by_name.get(name, {})
            idle.pop(connection, None)
            if not idle:
                self._by_name.pop(name, None)

    def has(self, names: Iterable[str]) -> bool:
        """Return whether an idle connection holds one of these claims."""
        return any(not connection.lost for name in names for connection in self._by_name.get(name, ()))

    def close_one(self, name: str) -> None:
        """Close the connection that has been idle for longest among those that hold this claim."""
        for connection in list(self._by_name.get(name, ())):
            self.discard(connection)
            if not connection.lost:
                connection.abort()
                return

"""HTTP connections that are kept in case of a next request, by the limits under which they count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Idle(Protocol):
    """A connection that nobody uses."""

    lost: bool

    @property
    def counted(self) -> tuple[str, ...]:
        """The names of the claims under which it counts."""

    def abort(self) -> None:
        """Close it at once."""


class IdleConnections:
    """They count as connections of their host: one that is in the way of somebody else is closed."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Idle, None]] = {}

    def add(self, connection: Idle) -> None:
        """It is idle from now on."""
        for name in connection.counted:
            self._by_name.setdefault(name, {})[connection] = None

    def discard(self, connection: Idle) -> None:
        """It is in use, or gone."""
        for name in connection.counted:
            idle = self._by_name.get(name, {})
            idle.pop(connection, None)
            if not idle:
                self._by_name.pop(name, None)

    def has(self, names: Iterable[str]) -> bool:
        """Whether one of them counts under one of these names."""
        return any(not connection.lost for name in names for connection in self._by_name.get(name, ()))

    def close_one(self, name: str) -> None:
        """Close the one that has been idle for longest, of those that count under this name."""
        for connection in list(self._by_name.get(name, ())):
            self.discard(connection)
            if not connection.lost:
                connection.abort()
                return

"""A call of the API: who calls which operation with which arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from esxiproxy.admin.openapi.operations import Role


@dataclass(frozen=True, slots=True)
class Actor:
    """The person or the program that calls.

    ``name`` is a principal as ``SECTION/NAME``, or ``uid NUMBER`` and the user's name on the unix socket.
    ``source`` is the client's address, or ``unix``.  ``role`` is None for a user without rights.
    ``left`` are the seconds until the login ends, None for no end.
    """

    name: str
    role: Role | None
    source: str
    left: float | None = None

    def shown(self) -> dict[str, str]:
        """Return the fields of a status with the client and its rights."""
        assert self.role is not None
        return {"user": self.name, "role": self.role.value}


@dataclass(frozen=True, slots=True)
class Call:
    """A checked call: ``parameters`` has the defaults of the table, ``body`` is the checked JSON object."""

    actor: Actor
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    body: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


Handler = Callable[[Call], Awaitable[Any]]
"""Returns what the operation returns, ready for JSON.  It may raise ApiError or StateUnavailable."""
Handlers = Mapping[str, Handler]
"""The handlers by the names of their operations."""


class ApiError(Exception):
    """A call that is refused with this HTTP status; the text says what failed and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

"""Commands that one process sends to the process that owns a session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from esxiproxy.core.errors import Draining, Killed, SessionError


class CommandKind(Enum):
    """The kind of a command."""

    KILL = "kill"
    """End the session with close code 1008."""
    DRAIN = "drain"
    """End the session as at a shutdown, with close code 1001, after which a client may reconnect."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command for one session, with the reason that both peers get."""

    kind: CommandKind
    session: str
    reason: str = ""

    @property
    def error(self) -> SessionError:
        """The error that the session ends with."""
        if self.kind is CommandKind.DRAIN:
            return Draining(self.reason or "the proxy is shutting down")
        return Killed(self.reason or "ended by an operator")

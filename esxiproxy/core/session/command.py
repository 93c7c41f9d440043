"""What one process may ask another to do with a session that the other one holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from esxiproxy.core.errors import Draining, Killed, SessionError


class CommandKind(Enum):
    """What is to become of the session."""

    KILL = "kill"
    """It ends now: close code 1008."""
    DRAIN = "drain"
    """It ends as it would at a shutdown, with close code 1001: the client may come back."""


@dataclass(frozen=True, slots=True)
class Command:
    """A verb for a session, and the reason that both peers are told."""

    kind: CommandKind
    session: str
    reason: str = ""

    @property
    def error(self) -> SessionError:
        """The failure that the session ends with."""
        if self.kind is CommandKind.DRAIN:
            return Draining(self.reason or "the proxy is shutting down")
        return Killed(self.reason or "ended by an operator")

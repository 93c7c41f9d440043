"""The tickets of a simulated host. Each opens one console of one machine once, before it expires."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from esxiproxy.sim.machine import VirtualMachine

G = TypeVar("G")

LIFETIME: Final = 30 * 60.0
"""Seconds; the longest lifetime on ESXi."""

MAX_OUTSTANDING: Final = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """The console that a ticket opens, and the user that asked for the ticket."""

    machine: VirtualMachine
    user: str = ""


@dataclass(slots=True)
class _Issued(Generic[G]):
    grant: G
    expiry: float


class TicketStore(Generic[G]):
    """The issued tickets that are not used yet, each with its grant. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float], lifetime: float = LIFETIME) -> None:
        self.issued = 0
        self.used = 0
        self.refused = 0
        self._clock = clock
        self._lifetime = lifetime
        self._outstanding: dict[str, _Issued[G]] = {}

    def issue(self, grant: G) -> str:
        """Return a new ticket for this grant."""
        self._forget()
        ticket = secrets.token_hex(16)
        self._outstanding[ticket] = _Issued(grant, self._clock() + self._lifetime)
        self.issued += 1
        return ticket

    def redeem(self, ticket: str) -> G | None:
        """Use the ticket up and return its grant; return None if it is unknown, used or expired."""
        issued = self._outstanding.pop(ticket, None)
        if issued is None or issued.expiry <= self._clock():
            self.refused += 1
            return None
        self.used += 1
        return issued.grant

    def revoke(self, revoked: Callable[[G], bool]) -> None:
        """Forget the tickets whose grants are revoked."""
        for ticket in [ticket for ticket, issued in self._outstanding.items() if revoked(issued.grant)]:
            del self._outstanding[ticket]

    def _forget(self) -> None:
        # All lifetimes are equal, so the dictionary's order is the order of expiry.
        now = self._clock()
        while self._outstanding:
            oldest = next(iter(self._outstanding))
            if self._outstanding[oldest].expiry > now and len(self._outstanding) < MAX_OUTSTANDING:
                return
            del self._outstanding[oldest]

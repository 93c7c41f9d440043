"""The tickets of a simulated host. Each opens one console once, before it expires."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

LIFETIME: Final = 30 * 60.0
"""Seconds; the longest lifetime on ESXi."""

MAX_OUTSTANDING: Final = 100_000


class TicketStore:
    """The issued tickets that are not used yet. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float], lifetime: float = LIFETIME) -> None:
        self.issued = 0
        self.used = 0
        self.refused = 0
        self._clock = clock
        self._lifetime = lifetime
        self._expiry: dict[str, float] = {}

    def issue(self) -> str:
        """Return a new ticket."""
        self._forget()
        ticket = secrets.token_hex(16)
        self._expiry[ticket] = self._clock() + self._lifetime
        self.issued += 1
        return ticket

    def redeem(self, ticket: str) -> bool:
        """Use the ticket up and return True; return False if it is unknown, used or expired."""
        expiry = self._expiry.pop(ticket, None)
        if expiry is None or expiry <= self._clock():
            self.refused += 1
            return False
        self.used += 1
        return True

    def _forget(self) -> None:
        # All lifetimes are equal, so the dictionary's order is the order of expiry.
        now = self._clock()
        while self._expiry:
            oldest = next(iter(self._expiry))
            if self._expiry[oldest] > now and len(self._expiry) < MAX_OUTSTANDING:
                return
            del self._expiry[oldest]

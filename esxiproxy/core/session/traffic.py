"""The figures of open consoles: of one console, and the totals of a process."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Protocol

_SAMPLES = 512
"""Number of round trips of which the median is taken."""
_SAMPLE_LIFE = 60.0
"""Seconds for which a round trip counts."""


class Traffic(Protocol):
    """The data of one open console, as its relay counts it."""

    @property
    def octets_up(self) -> int:
        """Bytes from the client so far."""

    @property
    def octets_down(self) -> int:
        """Bytes to the client so far."""

    @property
    def is_stalled(self) -> bool:
        """Whether a peer takes no data although data is waiting for it."""

    def idle(self) -> float:
        """Return the seconds without data, as exactly as the relay has looked."""


class ConsoleTotals:
    """The totals of all consoles of one process.

    Relays add what they have relayed when they look at it: at each check for a stall, when their figures are
    read, and at their end.
    """

    __slots__ = ("_round_trips", "octets_down", "octets_up")

    def __init__(self) -> None:
        self.octets_up = 0
        self.octets_down = 0
        self._round_trips: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)

    def add_round_trip(self, now: float, seconds: float) -> None:
        """Note the seconds between a ping to a client and its pong, which came now."""
        self._round_trips.append((now, seconds))

    def round_trip(self, now: float) -> float | None:
        """Return the median of the newest round trips, None if there was none in the last minute."""
        while self._round_trips and self._round_trips[0][0] < now - _SAMPLE_LIFE:
            self._round_trips.popleft()
        return median(seconds for _time, seconds in self._round_trips) if self._round_trips else None

"""A limit on the rate of control frames from a peer."""

from __future__ import annotations

from collections.abc import Callable

RATE = 250.0
"""Control frames per second that a peer may send without end: a ping every 4 ms."""
BURST = 1000.0
"""Control frames that a peer may send at once."""


class ControlBudget:
    """A token bucket that begins full, gets RATE tokens a second and loses one for each control frame."""

    __slots__ = ("_at", "_left", "_seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._left = BURST
        self._at = seconds()

    def spend(self) -> bool:
        """Take one token.  Return False if the bucket is empty, which is a flood."""
        now = self._seconds()
        self._left = min(BURST, self._left + (now - self._at) * RATE) - 1.0
        self._at = now
        return self._left >= 0.0

"""How many control frames a peer may send."""

from __future__ import annotations

from collections.abc import Callable

RATE = 250.0
"""Control frames a second that are answered without end: a ping every 4 ms."""
BURST = 1000.0
"""Control frames that may come at once."""


class ControlBudget:
    """A token bucket: full at first, refilled at RATE, emptied by one with each control frame."""

    __slots__ = ("_at", "_left", "_seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._left = BURST
        self._at = seconds()

    def spend(self) -> bool:
        """Take one; False when there is none left, which makes it a flood."""
        now = self._seconds()
        self._left = min(BURST, self._left + (now - self._at) * RATE) - 1.0
        self._at = now
        return self._left >= 0.0

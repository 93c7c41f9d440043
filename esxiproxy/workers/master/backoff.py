"""How long a worker that died has to wait for its successor."""

from __future__ import annotations

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
STABLE_AFTER = 10.0
"""Seconds after which a death is an accident, and no part of a crash loop."""


class Backoff:
    """At once after a good life; otherwise twice as long each time."""

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def next_delay(self, lived: float) -> float:
        """Seconds until the next one is started, after one that lived for so long."""
        if lived >= STABLE_AFTER:
            self._next = FIRST_DELAY
            return 0.0
        delay, self._next = self._next, min(2 * self._next, LONGEST_DELAY)
        return delay

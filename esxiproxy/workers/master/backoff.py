"""Delays the restart of a worker that exits again and again."""

from __future__ import annotations

FIRST_DELAY = 0.1
"""Seconds until the first restart."""
LONGEST_DELAY = 30.0
"""Seconds until any later restart, at most."""
STABLE_AFTER = 10.0
"""Seconds of life after which an exit does not count as part of a crash loop."""


class Backoff:
    """An exponential backoff, which is reset by a worker that lived for ``STABLE_AFTER``.

    ``first`` is the delay of the first restart in seconds, which may be 0.
    """

    def __init__(self, first: float = FIRST_DELAY) -> None:
        self._next = first

    def next_delay(self, lifetime: float) -> float:
        """Return the seconds until a restart, given the lifetime in seconds of the worker that exited."""
        if lifetime >= STABLE_AFTER:
            self._next = FIRST_DELAY
            return 0.0
        delay, self._next = self._next, min(max(2 * self._next, FIRST_DELAY), LONGEST_DELAY)
        return delay

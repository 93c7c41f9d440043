"""The deadline of a step."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Deadline:
    """A point in time on a monotonic clock, ``seconds`` from now."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds until the deadline, always above 0.  Raises TimeoutError after it."""
        seconds = self._end - self._clock()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def capped(self, seconds: float) -> Deadline:
        """Return a deadline in ``seconds``, or this one if it is earlier."""
        rest = max(0.0, self._end - self._clock())
        return Deadline(min(rest, seconds), self._clock)

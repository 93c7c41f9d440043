"""How long a step may still take."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Deadline:
    """A moment on a clock that only goes forward."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds until then, more than none.  Raises TimeoutError when it has passed."""
        seconds = self._end - self._clock()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def capped(self, seconds: float) -> Deadline:
        """This moment, or that many seconds from now, whichever is first."""
        rest = max(0.0, self._end - self._clock())
        return Deadline(min(rest, seconds), self._clock)

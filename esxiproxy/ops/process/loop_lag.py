"""Detects when the event loop is blocked."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

STALL = 0.25
"""Seconds for which the event loop has to be blocked to count as a stall."""
_INTERVAL = 0.05
"""Seconds between two checks."""
_LOG_INTERVAL = 10.0
"""Seconds between two log lines, at least."""


class LoopLag(Service):
    """A service that measures how late its own timer fires.

    While the event loop is blocked, for example by a plugin or by a slow disk, no console transfers data.
    Each stall longer than ``STALL`` is counted.  There is at most one log line every ten seconds; it has the
    number of stalls since the line before.  ``observe`` is called with the seconds by which each timer fired
    late.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, observe: Callable[[float], object] | None = None) -> None:
        self.setName("loop lag")
        self.stalls = 0
        """The number of stalls."""
        self.longest = 0.0
        """The duration of the longest stall, in seconds."""
        self._recent = 0.0
        self._clock = clock
        self._observe = observe
        self._call: IDelayedCall | None = None
        self._last = 0.0
        self._logged_at = float("-inf")
        self._unlogged: list[float] = []

    def startService(self) -> None:
        super().startService()
        self._arm()

    def stopService(self) -> None:
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._unlogged:
            self._log_stall(self._clock.seconds())

    def take_longest(self) -> float:
        """Return the longest delay of the event loop since the last call, in seconds."""
        recent, self._recent = self._recent, 0.0
        return recent

    def _arm(self) -> None:
        self._last = self._clock.seconds()
        self._call = self._clock.callLater(_INTERVAL, self._check)

    def _check(self) -> None:
        now = self._clock.seconds()
        # A stall may begin anywhere in the interval; measured from the start of it, no stall is missed.
        stall = now - self._last
        self._recent = max(self._recent, stall - _INTERVAL)
        if self._observe is not None:
            self._observe(max(0.0, stall - _INTERVAL))
        if stall > STALL:
            self.stalls += 1
            self.longest = max(self.longest, stall)
            self._unlogged.append(stall)
        if self._unlogged and now - self._logged_at >= _LOG_INTERVAL:
            self._log_stall(now)
        self._arm()

    def _log_stall(self, now: float) -> None:
        latest = self._unlogged[-1]
        more = f"; {len(self._unlogged)} stalls since the last line" if len(self._unlogged) > 1 else ""
        self._log.warn(
            "the event loop was blocked for {latest:.2f} s{more}, the longest {longest:.2f} s",
            latest=latest,
            more=more,
            longest=max(self._unlogged),
        )
        self._logged_at = now
        self._unlogged.clear()

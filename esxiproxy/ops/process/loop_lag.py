"""A watch on the event loop: says when it stood still."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

STALL = 0.25
"""Seconds of standing still that are told of."""
_INTERVAL = 0.05
_LOG_INTERVAL = 10.0
"""Seconds between two lines, at least."""


class LoopLag(Service):
    """A timer that measures its own lateness.

    While the loop stands still, in a plugin that computes or in a call that waits for a disk, no console gets
    a byte.  Every stall of more than ``STALL`` is counted; lines in the log are at least ten seconds apart,
    and the next one says what was left out.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.setName("loop lag")
        self.stalls = 0
        """How many there were."""
        self.longest = 0.0
        """Seconds of the longest one."""
        self._clock = clock
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

    def _arm(self) -> None:
        self._last = self._clock.seconds()
        self._call = self._clock.callLater(_INTERVAL, self._check)

    def _check(self) -> None:
        now = self._clock.seconds()
        # The stall began at some time in the interval: counted from its start none is missed.
        stall = now - self._last
        if stall > STALL:
            self.stalls += 1
            self.longest = max(self.longest, stall)
            self._unlogged.append(stall)
        if self._unlogged and now - self._logged_at >= _LOG_INTERVAL:
            self._log_stall(now)
        self._arm()

    def _log_stall(self, now: float) -> None:
        latest = self._unlogged[-1]
        more = f"; {len(self._unlogged)} since the last line" if len(self._unlogged) > 1 else ""
        self._log.warn(
            "the event loop stood still for {latest:.2f} s{more}, the longest {longest:.2f} s",
            latest=latest,
            more=more,
            longest=max(self._unlogged),
        )
        self._logged_at = now
        self._unlogged.clear()

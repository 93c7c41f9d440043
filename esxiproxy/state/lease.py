"""Durations of a process's lease on shared state, and the task that renews it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.errors import StateUnavailable

LEASE = 15.0
"""Seconds from a renewal until the slots and sessions of a process are released."""
LOST_SESSION_RETENTION = 86400.0
"""Seconds after a lease expired for which ``reclaim`` still returns the sessions of its process."""
LOST_AFTER = 60.0
"""Seconds after a lease expired at which its process counts as dead, and its sessions as lost."""
RENEWALS_PER_LEASE = 3
"""Renewals within one lease, so that two in a row may fail."""


class PeriodicTask:
    """A call that is repeated at an interval, one at a time, also after it failed.

    The first StateUnavailable in a row is logged, and so is the first success after it.  ``what`` describes
    the call in these messages.
    """

    _log = Logger()

    def __init__(self, call: Callable[[], Any], what: str, clock: IReactorTime) -> None:
        self._call = call
        self._what = what
        self._loop = LoopingCall(self._once)
        self._loop.clock = clock
        self._is_unavailable = False

    def start(self, interval: float, now: bool = False) -> None:
        """Start the calls, the first one after ``interval`` seconds, or at once with ``now``."""
        self._loop.start(interval, now=now)

    def stop(self) -> None:
        """Stop the calls; one that is running is not cancelled."""
        if self._loop.running:
            self._loop.stop()

    def _once(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._run()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        """Log any other exception, SystemExit and asyncio.CancelledError included, and continue."""
        self._log.failure("bug: {what} failed and will be retried", failure, what=self._what)

    async def _run(self) -> None:
        try:
            await self._call()
        except StateUnavailable as error:
            if not self._is_unavailable:
                self._log.error(
                    "shared state unavailable, {what} failed and will be retried: {error}",
                    what=self._what,
                    error=error,
                )
            self._is_unavailable = True
        else:
            if self._is_unavailable:
                self._log.info("shared state available again, {what} succeeded", what=self._what)
            self._is_unavailable = False

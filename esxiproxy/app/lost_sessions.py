"""Writes the missing session records of crashed proxies: on other machines, or with all their processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.core.errors import ProxyLost, StateUnavailable
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.lost_record import lost_record
from esxiproxy.core.session.record import Record
from esxiproxy.interfaces import IState
from esxiproxy.state.lease import LOST_AFTER, PeriodicTask

CHECK_INTERVAL = LOST_AFTER / 6
"""Seconds between two checks for processes that died."""
RECORDS_AT_ONCE = 100
"""Maximum number of records that are written in one turn of the reactor."""
_UNKNOWN_MACHINE = "an unknown machine"
"""The machine of sessions that an older version has published."""


class LostSessions(Service):
    """A service that records the sessions of processes whose lease has been over for ``LOST_AFTER`` seconds.

    It runs in every process that shares a state.  The state gives each session to one of them.  ``record``
    takes a record, and ``time_of_day`` reads the wall clock.
    """

    _log = Logger()

    def __init__(
        self,
        state: IState,
        record: Callable[[Record], object],
        clock: IReactorTime,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._record = record
        self._clock = clock
        self._time_of_day = time_of_day
        self._lock = DeferredLock()
        self._has_ended = False
        self._checks = PeriodicTask(self._check, "looking for proxies that died", clock)

    def startService(self) -> None:
        super().startService()
        self._has_ended = False
        self._checks.start(CHECK_INTERVAL)

    def stopService(self) -> None:
        super().stopService()
        self._end()

    async def finish(self) -> None:
        """Stop, and wait until the sessions are recorded that this process has begun to record."""
        self._end()
        await self._lock.run(lambda: None)

    def _end(self) -> None:
        self._has_ended = True
        self._checks.stop()

    async def _check(self) -> None:
        await self._lock.run(lambda: Deferred.fromCoroutine(self._record_all()))

    async def _record_all(self) -> None:
        """Record the sessions of one process after the other.  Raises StateUnavailable."""
        while not self._has_ended:
            try:
                lost = await self._state.reclaim_expired(LOST_AFTER)
            except StateUnavailable:
                if self._has_ended:
                    return
                raise
            if not lost:
                return
            await self._record_sessions(lost)

    async def _record_sessions(self, lost: Sequence[SessionEntry]) -> None:
        """Record the sessions of one process."""
        machine = lost[0].machine or _UNKNOWN_MACHINE
        error = ProxyLost(f"the proxy on {machine} died, or is cut off from the shared state")
        self._log.error(
            "the proxy on {machine}, process {holder}, had no lease on the shared state for a minute; its "
            "{count} sessions are recorded as lost: see whether it crashed, or cannot reach the shared state",
            machine=machine,
            holder=lost[0].holder,
            count=len(lost),
        )
        now = self._time_of_day()
        for number, entry in enumerate(lost, 1):
            try:
                self._record(lost_record(entry, error, now, machine))
            except Exception:
                self._log.failure(
                    "cannot write the record of session {session} of a lost proxy", session=entry.session
                )
            if number % RECORDS_AT_ONCE == 0:
                await deferLater(self._clock, 0)

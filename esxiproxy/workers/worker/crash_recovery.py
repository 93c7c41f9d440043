"""Writes the missing session records of a crashed worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.core.errors import StateUnavailable, WorkerLost
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.lost_record import lost_record
from esxiproxy.core.session.record import Record

RETRY_INTERVAL = 1.0
"""Seconds between two attempts to read a shared state that is unavailable."""
_CRASHED = "the worker process of the session crashed"


class CrashRecorder:
    """Writer of the records of sessions whose worker crashed.

    ``reclaim`` releases what a crashed instance held in the shared state and returns the sessions that it had
    published; ``record`` takes a record.  ``day`` returns the time of day in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        reclaim: Callable[[str], Awaitable[Sequence[SessionEntry]]],
        record: Callable[[Record], object],
        clock: IReactorTime,
        day: Callable[[], float] = time.time,
    ) -> None:
        self._reclaim = reclaim
        self._record = record
        self._clock = clock
        self._day = day

    async def record_sessions(self, instance_id: str) -> None:
        """Record each session of a crashed instance once; retry while the shared state is unavailable."""
        lost = await self._lost_sessions(instance_id)
        now = self._day()
        for entry in lost:
            try:
                self._record(lost_record(entry, WorkerLost(_CRASHED), now))
            except Exception:
                self._log.failure(
                    "cannot write the record of session {session} of a crashed worker", session=entry.session
                )

    async def _lost_sessions(self, instance_id: str) -> Sequence[SessionEntry]:
        is_logged = False
        while True:
            try:
                return await self._reclaim(instance_id)
            except StateUnavailable as error:
                if not is_logged:
                    self._log.error(
                        "cannot read the sessions of a crashed worker, will retry: {error}", error=error
                    )
                is_logged = True
            await deferLater(self._clock, RETRY_INTERVAL)

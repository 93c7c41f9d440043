"""What is done about a holder of shared state that died: its sessions get their records."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.record import Record
from esxiproxy.workers.worker.lost import record_of

RETRY_INTERVAL = 1.0
"""Seconds until a state that could not be reached is asked again."""


class CrashRecorder:
    """Records what dead holders had, each session once, however long the state cannot tell of it."""

    _log = Logger()

    def __init__(
        self,
        bury: Callable[[str], Awaitable[Sequence[SessionEntry]]],
        record: Callable[[Record], object],
        clock: Any,
        day: Callable[[], float] = time.time,
    ) -> None:
        self._reclaim = bury
        self._record = record
        self._clock = clock
        self._day = day

    async def of(self, holder: str) -> None:
        """Until it is done."""
        lost = await self._lost(holder)
        now = self._day()
        for entry in lost:
            try:
                self._record(record_of(entry, now))
            except Exception:
                self._log.failure("a dead worker's session {session} has no record", session=entry.session)

    async def _lost(self, holder: str) -> Sequence[SessionEntry]:
        told = False
        while True:
            try:
                return await self._reclaim(holder)
            except StateUnavailable as error:
                if not told:
                    self._log.error("what a dead worker had is not known yet: {error}", error=error)
                told = True
            await deferLater(self._clock, RETRY_INTERVAL)

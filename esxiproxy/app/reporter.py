"""Reports the figures of this process to the admin service, through the shared state."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from esxiproxy.app.session_tally import SessionTally
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.failure_reports import FAILURES, FAILURES_LIFE, FailureChunk
from esxiproxy.core.session.reports import (
    ADMIN_SPACE,
    FIGURES,
    FIGURES_CHUNK,
    FIGURES_INTERVAL,
    FIGURES_LIFE,
    PROCESS_LIFE,
    PROCESSES,
    REPORT_INTERVAL,
    SCRAPED,
    WATCHED,
    ConsoleSample,
    ProcessReport,
    ProcessTotals,
    encode_figures,
)
from esxiproxy.core.session.session import Session
from esxiproxy.proxy import Proxy
from esxiproxy.state.lease import PeriodicTask

_MARKS = 16
"""Marks of readers that are read at once; there are two."""
_WATCHED_INTERVAL = 1.0
"""Seconds between two reports of failures, while they are read."""


class Reporter(Service):
    """A service that reports what this process does, every 5 s at a cost that no session adds to.

    While the admin service has readers, which a mark in the state says, the figures of each console are
    reported every 2 s, in a few items for all of them.  ``lag`` returns the longest delay of the event loop
    since its last call.  ``watch_metrics`` is called with whether metrics are read.
    """

    def __init__(
        self,
        proxy: Proxy,
        tally: SessionTally,
        identity: ProcessIdentity,
        clock: IReactorTime,
        version: str,
        lag: Callable[[], float],
        time_of_day: Callable[[], float] = time.time,
        watch_metrics: Callable[[bool], None] = lambda is_scraped: None,
    ) -> None:
        self._proxy = proxy
        self._tally = tally
        self._identity = identity
        self._clock = clock
        self._version = version
        self._lag = lag
        self._watch_metrics = watch_metrics
        self._time_of_day = time_of_day
        self._started = time_of_day()
        self._is_watched = self._has_ended = False
        self._figures_due = 0.0
        self._writing = DeferredLock()
        self._reports = PeriodicTask(
            partial(self._ignore_if_ended, self._report), "reporting the figures of this process", clock
        )
        self._details = PeriodicTask(
            partial(self._ignore_if_ended, self._report_details),
            "reporting the figures of the consoles",
            clock,
        )

    def startService(self) -> None:
        super().startService()
        self._has_ended = False
        self._reports.start(REPORT_INTERVAL, now=True)

    def stopService(self) -> None:
        super().stopService()
        self._end()

    def _end(self) -> None:
        self._has_ended = True
        self._reports.stop()
        self._unwatch()

    async def last_report(self) -> None:
        """Write what was not reported yet, and remove this process from the list, before the state stops."""
        self._end()
        with suppress(StateUnavailable):
            await self._report_failures()
            await self._proxy.state.remove(PROCESSES, self._proxy.state.instance_id)

    async def _ignore_if_ended(self, report: Callable[[], Awaitable[None]]) -> None:
        """Make a report, and ignore its failure if the state has stopped."""
        try:
            await report()
        except StateUnavailable:
            if not self._has_ended:
                raise

    async def _report(self) -> None:
        """Report the totals and the new failures, and look whether the details are read."""
        state, now, lag = self._proxy.state, self._time_of_day(), self._lag()
        totals, sessions = self._proxy.sessions.totals, self._proxy.sessions
        figures = ProcessTotals(
            now,
            len(self._tally.consoles),
            self._tally.opened_consoles,
            self._tally.failed,
            totals.octets_up,
            totals.octets_down,
            lag,
            totals.round_trip(self._clock.seconds()),
        )
        report = ProcessReport.of(
            self._identity,
            self._version,
            self._started,
            accepting=not (sessions.draining or sessions.retiring or self._proxy.drains.current.proxy),
            sessions=len(self._tally.consoles),
            lag=lag,
        )
        await state.put(PROCESSES, state.instance_id, report.encode(), now + PROCESS_LIFE)
        await state.report(figures.figures())
        await self._report_failures()
        await self._check_readers()

    async def _check_readers(self) -> None:
        """Begin or end the reports of details."""
        marks = {key for key, _ in await self._proxy.state.items(ADMIN_SPACE, "", _MARKS)}
        self._watch_metrics(SCRAPED in marks)
        was_watched = self._is_watched
        self._is_watched = WATCHED in marks
        if self._has_ended or not self._is_watched:
            self._unwatch()
        elif not was_watched:
            self._figures_due = 0.0
            self._details.start(_WATCHED_INTERVAL, now=True)

    def _unwatch(self) -> None:
        self._is_watched = False
        self._details.stop()

    async def _report_details(self) -> None:
        """Report new failures, and every other time the figures of all consoles."""
        await self._report_failures()
        now = self._clock.seconds()
        if now < self._figures_due:
            return
        self._figures_due = now + FIGURES_INTERVAL - _WATCHED_INTERVAL / 2
        state, consoles = self._proxy.state, list(self._tally.consoles.values())
        for number, start in enumerate(range(0, len(consoles), FIGURES_CHUNK)):
            chunk, day = consoles[start : start + FIGURES_CHUNK], self._time_of_day()
            samples = [sample for each in chunk if (sample := _sample(each)) is not None]
            value = encode_figures(day, samples)
            await state.put(FIGURES, f"{state.instance_id}/{number}", value, day + FIGURES_LIFE)

    async def _report_failures(self) -> None:
        """Write the chunks of failures that have changed."""
        await self._writing.run(self._write_failures)

    async def _write_failures(self) -> None:
        state, tally = self._proxy.state, self._tally
        for number in sorted(tally.changed):
            tally.changed.discard(number)
            machine, worker = self._identity.machine, self._identity.worker
            chunk = FailureChunk(machine, worker, tally.failures(number)).encode()
            try:
                expires = self._time_of_day() + FAILURES_LIFE
                await state.put(FAILURES, f"{state.instance_id}/{number}", chunk, expires)
            except StateUnavailable:
                tally.changed.add(number)
                raise


def _sample(session: Session) -> ConsoleSample | None:
    """Return the figures of a console, None while it opens or ends."""
    traffic = session.traffic
    if traffic is None:
        return None
    return ConsoleSample(
        session.id,
        traffic.octets_up,
        traffic.octets_down,
        traffic.idle(),
        session.round_trip,
        traffic.is_stalled,
    )

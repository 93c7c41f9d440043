"""The data of the admin service: read from the shared state when it is wanted, at most once a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from esxiproxy.admin.control import Control
from esxiproxy.admin.drained import DrainedParts
from esxiproxy.admin.failures import FailureList, FailureReader
from esxiproxy.admin.history import History, Overview, Throughput
from esxiproxy.admin.hosts import HostLister, HostRow
from esxiproxy.admin.session_list import SessionCounts, SessionLister, SessionSnapshot
from esxiproxy.admin.shared_value import SharedValue
from esxiproxy.admin.stored_items import all_items
from esxiproxy.admin.turns import Turns
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.drain_table import SPACE as DRAINS
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.reports import (
    ADMIN_SPACE,
    FIGURES,
    PROCESSES,
    REPORT_INTERVAL,
    WATCHED,
    WATCHED_LIFE,
    ConsoleFigures,
    ProcessReport,
    ProcessTotals,
    decode_figures,
    newest_figures,
)
from esxiproxy.state.lease import PeriodicTask

LIFE = 1.0
"""Seconds for which what was read is used again."""
SESSIONS_PAGE = 10_000
"""Consoles that are read at once."""
_MARK_INTERVAL = 5.0
"""Seconds after which the mark that figures are read is renewed."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of all machines, by their id in the state."""

    by_id: Mapping[str, ProcessReport]
    overview: Overview
    drained: DrainedParts

    @property
    def workers(self) -> Sequence[ProcessReport]:
        """The processes that serve consoles."""
        return [report for report in self.by_id.values() if report.worker != "admin"]

    @property
    def machines(self) -> list[str]:
        """The names of the machines."""
        return sorted({report.machine for report in self.by_id.values() if report.machine})


class Live(Service):
    """A service that reads the shared state for the admin service.

    Only the totals of the processes are read regularly, every 5 s.  Everything else is read when it is wanted
    and at most once a second, however many readers there are.  While consoles are read, a mark in the state
    makes all processes report their figures.
    """

    def __init__(
        self,
        control: Control,
        clock: IReactorTime,
        version: str,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.control = control
        self.clock = clock
        self.time_of_day = time_of_day
        self.history = History()
        self.turns = Turns(clock)
        self._version = version
        self._lister = SessionLister()
        self._throughput = Throughput()
        self._chunks: dict[str, Mapping[str, ConsoleFigures]] = {}
        self._marked_at = float("-inf")
        self._processes = SharedValue(self._read_processes, LIFE, clock)
        self._sessions = SharedValue(self._read_sessions, LIFE, clock)
        self._failures = SharedValue(FailureReader(control.state, clock).read, LIFE, clock)
        self._configured_hosts = SharedValue(self._read_configured_hosts, LIFE, clock)
        self._hosts = SharedValue(self._read_hosts, LIFE, clock)
        self._host_lister = HostLister(control.state, control.in_thread, clock)
        self._sampling = PeriodicTask(self._sample, "reading the totals of the processes", clock)

    def startService(self) -> None:
        super().startService()
        self._sampling.start(REPORT_INTERVAL)

    def stopService(self) -> None:
        super().stopService()
        self._sampling.stop()

    def forget(self) -> None:
        """Read everything again for the next reader, since an action has changed it."""
        for value in (
            self._processes,
            self._sessions,
            self._failures,
            self._configured_hosts,
            self._hosts,
        ):
            value.forget()

    async def processes(self) -> Processes:
        """Return the processes with their totals, and the drains.  Raises StateUnavailable."""
        return await self._processes.get()

    async def sessions(self) -> SessionSnapshot:
        """Return the open consoles of all processes, and have their figures reported from now on.

        Raises StateUnavailable.
        """
        await self._mark_watched()
        return await self._sessions.get()

    async def session_counts(self) -> SessionCounts:
        """Return the numbers of open consoles, for which no figures are needed.  Raises StateUnavailable."""
        return (await self._sessions.get()).counts

    async def entries(self) -> Sequence[SessionEntry]:
        """Return the open consoles as they are listed, without their figures.  Raises StateUnavailable."""
        return [row.entry for row in (await self._sessions.get()).rows]

    async def failures(self) -> FailureList:
        """Return the newest failures of all processes.  Raises StateUnavailable."""
        return await self._failures.get()

    async def hosts(self) -> Sequence[HostRow]:
        """Return the hosts of the configuration and of open consoles.  Raises StateUnavailable."""
        return await self._hosts.get()

    async def configured_hosts(self) -> Sequence[HostRow]:
        """Return the hosts of the configuration without their consoles and failures, which are not read.

        Raises StateUnavailable.
        """
        return await self._configured_hosts.get()

    async def status(self) -> dict[str, Any]:
        """Return the numbers about all proxies, as the operation ``status`` does."""
        control, processes = self.control, await self.processes()
        overview, drained = processes.overview, processes.drained
        sessions, rates = overview.sessions, (overview.rate_up, overview.rate_down)
        if (snapshot := self._sessions.fresh) is not None:  # newer than what the processes report
            sessions, rates = len(snapshot.rows), snapshot.rates or rates
        reasons = list(await control.unready())
        return {
            "version": self._version,
            "machine": control.machine,
            "now": self.time_of_day(),
            "started": control.started,
            "ready": not reasons,
            "reasons": reasons,
            "draining": drained.has_proxy(control.run),
            "drains": len(drained.all),
            "sessions": sessions,
            "opened": overview.opened,
            "failed": overview.failed,
            "rate_up": round(rates[0], 1),
            "rate_down": round(rates[1], 1),
            "round_trip": overview.round_trip,
            "workers": len(processes.workers),
            "machines": processes.machines,
        }

    async def _sample(self) -> None:
        processes = await self.processes()
        self.history.add(self.time_of_day(), processes.overview)

    async def _read_processes(self) -> Processes:
        state = self.control.state
        found = {key: ProcessReport.decode(text) for key, text in await all_items(state, PROCESSES)}
        totals = {key: ProcessTotals.of(figures) for key, figures in (await state.reports()).items()}
        drained = DrainedParts(text for _key, text in await all_items(state, DRAINS))
        return Processes(
            {key: report for key, report in found.items() if report is not None},
            self._throughput.add(totals),
            drained,
        )

    async def _read_sessions(self) -> SessionSnapshot:
        processes = await self.processes()
        entries = await self._entries()
        return self._lister.snapshot(entries, processes.by_id, await self._figures(), processes.drained)

    async def _figures(self) -> Mapping[str, ConsoleFigures]:
        """Return the figures of all consoles.  A chunk that has not changed is not parsed again."""
        texts = [text for _key, text in await all_items(self.control.state, FIGURES)]
        known = self._chunks
        self._chunks = {text: known[text] if text in known else decode_figures(text) for text in texts}
        return newest_figures(self._chunks.values())

    async def _read_hosts(self) -> Sequence[HostRow]:
        snapshot, failures = await self._sessions.get(), await self.failures()
        drained = (await self.processes()).drained
        return await self._host_lister.read(self.control.config, snapshot, drained, failures)

    async def _read_configured_hosts(self) -> Sequence[HostRow]:
        drained, nothing = (await self.processes()).drained, SessionSnapshot(())
        return await self._host_lister.read(self.control.config, nothing, drained, FailureList(()))

    async def _entries(self) -> Sequence[SessionEntry]:
        found: list[SessionEntry] = []
        while True:
            page = await self.control.state.sessions(found[-1].cursor if found else "", SESSIONS_PAGE)
            found.extend(page)
            if len(page) < SESSIONS_PAGE:
                return found

    async def _mark_watched(self) -> None:
        """Let all processes report the figures of their consoles for the next 15 s."""
        now = self.clock.seconds()
        if now - self._marked_at >= _MARK_INTERVAL:
            before, self._marked_at = self._marked_at, now
            try:
                await self.control.state.put(ADMIN_SPACE, WATCHED, "1", self.time_of_day() + WATCHED_LIFE)
            except StateUnavailable:
                self._marked_at = before
                raise

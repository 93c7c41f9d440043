"""Keeps the admin process in the list of processes in the shared state."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.reports import PROCESS_LIFE, PROCESSES, REPORT_INTERVAL, ProcessReport
from esxiproxy.interfaces import IState
from esxiproxy.state.lease import PeriodicTask


class AdminReport(Service):
    """A service that reports the admin process every 5 s, as the workers report themselves.

    ``lag`` returns the longest delay of the event loop since its last call.  ``accepting`` is whether the
    sockets of [admin] are served.
    """

    def __init__(
        self,
        state: IState,
        identity: ProcessIdentity,
        clock: IReactorTime,
        version: str,
        lag: Callable[[], float],
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.accepting = False
        self._state = state
        self._identity = identity
        self._version = version
        self._lag = lag
        self._time_of_day = time_of_day
        self._started = time_of_day()
        self._reports = PeriodicTask(self._report, "reporting the admin process", clock)

    def startService(self) -> None:
        super().startService()
        self._reports.start(REPORT_INTERVAL, now=True)

    async def finish(self) -> None:
        """Remove the process from the list, before the state stops."""
        self._reports.stop()
        with suppress(StateUnavailable):
            await self._state.remove(PROCESSES, self._state.instance_id)

    async def _report(self) -> None:
        report = ProcessReport.of(
            self._identity, self._version, self._started, accepting=self.accepting, lag=self._lag()
        )
        expires = self._time_of_day() + PROCESS_LIFE
        await self._state.put(PROCESSES, self._state.instance_id, report.encode(), expires)

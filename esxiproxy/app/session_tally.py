"""Counts the sessions of this process, and keeps its newest failures."""

from __future__ import annotations

import time
from collections.abc import Callable

from zope.interface import implementer

from esxiproxy.core.session.failure_reports import (
    FAILURE_CHUNK,
    MAX_FAILURES,
    FailureReport,
)
from esxiproxy.core.session.record import CONSOLE, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver


@implementer(ISessionObserver)
class SessionTally:
    """An observer that counts consoles and failures.  Each event has the same small cost.

    ``consoles`` has the open consoles by their id.  ``changed`` are the numbers of the chunks of failures
    that have changed since they were last written.
    """

    def __init__(self, time_of_day: Callable[[], float] = time.time) -> None:
        self.consoles: dict[str, Session] = {}
        self.opened_consoles = 0
        self.failed = 0
        self.changed: set[int] = set()
        self._time_of_day = time_of_day
        self._failures: list[FailureReport] = []

    def opened(self, session: Session) -> None:
        if session.kind is CONSOLE:
            self.opened_consoles += 1
            self.consoles[session.id] = session

    def closed(self, record: Record) -> None:
        self.consoles.pop(record.session, None)
        if not record.error:
            return
        place = self.failed % MAX_FAILURES
        self.failed += 1
        self.changed.add(place // FAILURE_CHUNK)
        self._failures[place : place + 1] = [failure_of(record, self._time_of_day())]

    def failures(self, chunk: int) -> list[FailureReport]:
        """Return the failures of a chunk: when all are full, the oldest failure is replaced first."""
        return self._failures[chunk * FAILURE_CHUNK : (chunk + 1) * FAILURE_CHUNK]


def failure_of(record: Record, now: float) -> FailureReport:
    """Return the failure in a record, without its target."""
    return FailureReport(
        time=now,
        session=record.session,
        error=record.error,
        detail=record.detail,
        status=record.status,
        close_code=record.close_code,
        client=str(record.client),
        principal=record.principal,
        listener=record.listener,
        upstream=record.upstream,
        host=record.host,
        machine=record.machine,
    )

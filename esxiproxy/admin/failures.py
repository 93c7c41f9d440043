"""The newest failures of all processes, also of those that have ended, with what to do about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from heapq import nlargest
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from esxiproxy.admin.stored_items import all_items
from esxiproxy.core.errors import SessionError, StateUnavailable
from esxiproxy.core.session.failure_reports import FAILURES, MAX_FAILURES, FailureChunk, FailureReport
from esxiproxy.core.session.reports import PROCESSES
from esxiproxy.interfaces import IState

PARSED_AT_ONCE = 20
"""Maximum number of chunks that are parsed in one turn of the reactor."""
REMOVED_AT_ONCE = 100
"""Maximum number of chunks that are removed by one read."""
FAILURE_TEXTS = frozenset(
    {
        *("session", "error", "detail", "client", "principal", "listener", "upstream", "host"),
        *("machine", "worker"),
    }
)
"""The columns that a word of a filter may name."""
_UNKNOWN = "Read the detail, and the lines about the session in the log of the proxy."


class FailureRow:
    """One failure in a list."""

    __slots__ = ("machine", "report", "worker")

    def __init__(self, report: FailureReport, machine: str, worker: str) -> None:
        self.report = report
        self.machine = machine
        self.worker = worker

    @property
    def key(self) -> str:
        return self.report.session

    @property
    def words(self) -> str:
        report = self.report
        return "\n".join(
            (
                *(report.session, report.error, report.detail, report.client, report.principal),
                *(report.listener, report.upstream, report.host, self.machine, self.worker),
            )
        ).lower()

    def column(self, name: str) -> Any:
        return getattr(self if name in ("machine", "worker") else self.report, name)

    def fields(self, now: float) -> dict[str, Any]:
        """Return the failure as the API returns it."""
        report = self.report
        return {
            "time": report.time,
            "session": report.session,
            "error": report.error,
            "detail": report.detail,
            "help": help_of(report.error),
            "status": report.status,
            "close_code": report.close_code,
            "client": report.client,
            "principal": report.principal,
            "listener": report.listener,
            "upstream": report.upstream,
            "host": report.host,
            "machine": self.machine,
            "worker": self.worker,
        }


class FailureList:
    """The newest failures of all processes at one time, the newest first."""

    def __init__(self, rows: Sequence[FailureRow]) -> None:
        self.rows = rows

    @cached_property
    def by_host(self) -> Counter[tuple[str, str]]:
        """Numbers of failures by the upstream and the host."""
        return Counter((row.report.upstream, row.report.host) for row in self.rows)

    @cached_property
    def by_upstream(self) -> Counter[str]:
        """Numbers of failures by the upstream."""
        return Counter(row.report.upstream for row in self.rows)

    @cached_property
    def last_of_host(self) -> Mapping[tuple[str, str], str]:
        """The sentence about the newest failure of each upstream and host."""
        return {(row.report.upstream, row.report.host): sentence(row.report) for row in reversed(self.rows)}

    @cached_property
    def last_of_upstream(self) -> Mapping[str, str]:
        """The sentence about the newest failure of each upstream."""
        return {row.report.upstream: sentence(row.report) for row in reversed(self.rows)}


class FailureReader:
    """Reads the failures, and removes those of ended processes that are too old to be shown.

    A chunk that has not changed is not parsed again.  Many chunks are parsed in several turns of the reactor.
    """

    def __init__(self, state: IState, clock: IReactorTime) -> None:
        self._state = state
        self._clock = clock
        self._chunks: dict[str, tuple[str, Sequence[FailureRow]]] = {}

    async def read(self) -> FailureList:
        """Return the newest failures.  Raises StateUnavailable."""
        before, chunks, parsed = self._chunks, dict[str, tuple[str, Sequence[FailureRow]]](), 0
        for key, text in await all_items(self._state, FAILURES):
            known = before.get(key)
            if known is None or known[0] != text:
                known = text, list(_rows(text))
                parsed += 1
                if parsed % PARSED_AT_ONCE == 0:
                    await deferLater(self._clock, 0)
            chunks[key] = known
        self._chunks = chunks
        found = (row for _text, rows in chunks.values() for row in rows)
        newest = nlargest(MAX_FAILURES, found, key=_time)
        if len(newest) == MAX_FAILURES:
            with suppress(StateUnavailable):  # the next read removes them
                await self._remove_before(_time(newest[-1]))
        return FailureList(newest)

    async def _remove_before(self, oldest: float) -> None:
        """Remove some chunks of ended processes that have only failures before this time."""
        old = [key for key, (_text, rows) in self._chunks.items() if all(_time(row) < oldest for row in rows)]
        if not old:
            return
        running = {key for key, _text in await all_items(self._state, PROCESSES)}
        ended = [key for key in old if key.rpartition("/")[0] not in running]
        for key in ended[:REMOVED_AT_ONCE]:
            await self._state.remove(FAILURES, key)
            self._chunks.pop(key, None)


def _time(row: FailureRow) -> float:
    return row.report.time


def _rows(text: str) -> Iterator[FailureRow]:
    chunk = FailureChunk.decode(text)
    for failure in chunk.failures:
        if failure.machine:  # which has died; its worker is unknown
            yield FailureRow(failure, failure.machine, "")
        else:
            yield FailureRow(failure, chunk.machine, chunk.worker)


def sentence(report: FailureReport) -> str:
    """Return a failure in one line."""
    detail = "" if report.detail in ("", report.error) else f": {report.detail}"
    return f"{report.error}{detail}"


def help_of(error: str) -> str:
    """Return what to do about an error, by its name."""
    return _advice().get(error) or _UNKNOWN


@cache
def _advice() -> Mapping[str, str]:
    return {each.__name__: each.advice or _summary(each) for each in _subclasses(SessionError)}


def _summary(error: type[SessionError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]


def _subclasses(error: type[SessionError]) -> Iterator[type[SessionError]]:
    for each in error.__subclasses__():
        yield each
        yield from _subclasses(each)

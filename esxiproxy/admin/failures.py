"""The newest failures of all processes, also of those that have ended, with what to do about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from heapq import nlargest
from typing import Any

from esxiproxy.admin.stored_items import all_items
from esxiproxy.core.errors import SessionError
from esxiproxy.core.session.failure_reports import FAILURES, MAX_FAILURES, FailureChunk, FailureReport
from esxiproxy.interfaces import IState

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
    """Reads the failures.  A chunk that has not changed is not parsed again."""

    def __init__(self, state: IState) -> None:
        self._state = state
        self._chunks: dict[str, tuple[str, Sequence[FailureRow]]] = {}

    async def read(self) -> FailureList:
        """Return the newest failures.  Raises StateUnavailable."""
        before, self._chunks = self._chunks, {}
        for key, text in await all_items(self._state, FAILURES):
            known = before.get(key)
            self._chunks[key] = known if known is not None and known[0] == text else (text, list(_rows(text)))
        found = (row for _text, rows in self._chunks.values() for row in rows)
        return FailureList(nlargest(MAX_FAILURES, found, key=lambda row: row.report.time))


def _rows(text: str) -> Iterator[FailureRow]:
    chunk = FailureChunk.decode(text)
    for failure in chunk.failures:
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

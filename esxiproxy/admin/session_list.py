"""The open consoles of all workers and machines, with their figures, as the API lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from esxiproxy.admin.drained import DrainedParts
from esxiproxy.core.host_name import host_key
from esxiproxy.core.session.drain import Drain, DrainKind
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.reports import ConsoleFigures, ProcessReport

_UNKNOWN = ProcessReport()
_LONGEST_GAP = 15.0
"""Seconds between two figures of a console of which no rate is computed any more."""

SESSION_TEXTS = frozenset(
    {
        *("id", "principal", "authenticator", "client", "listener", "upstream", "host", "console", "link"),
        *("console_name", "state", "machine", "worker"),
    }
)
"""The columns that a word of a filter may name."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a second of one console each way, computed from ``figures`` and the ones before."""

    figures: ConsoleFigures
    up: float | None = None
    down: float | None = None

    def following(self, figures: ConsoleFigures) -> Rates:
        """Return the rates after these figures."""
        if figures is self.figures:
            return self
        seconds = figures.at - self.figures.at
        if seconds == 0:
            return replace(self, figures=figures)
        if not 0 < seconds <= _LONGEST_GAP:
            return Rates(figures)
        up = max(0, figures.octets_up - self.figures.octets_up) / seconds
        down = max(0, figures.octets_down - self.figures.octets_down) / seconds
        return Rates(figures, round(up, 1), round(down, 1))


class SessionRow:
    """One open console in a list.  ``rates`` is None while its figures are not measured."""

    __slots__ = ("_texts", "entry", "is_draining", "process", "rates")

    def __init__(
        self,
        entry: SessionEntry,
        process: ProcessReport,
        rates: Rates | None,
        is_draining: bool,
        texts: str,
    ) -> None:
        self.entry = entry
        self.process = process
        self.rates = rates
        self.is_draining = is_draining
        self._texts = texts

    @property
    def key(self) -> str:
        return self.entry.session

    @property
    def words(self) -> str:
        return f"{self._texts}\n{self.state}"

    @property
    def state(self) -> str:
        """The state of the console: ``open``, ``stalled`` or ``draining``."""
        if self.rates is not None and self.rates.figures.is_stalled:
            return "stalled"
        return "draining" if self.is_draining else "open"

    def column(self, name: str) -> Any:
        return _COLUMNS[name](self)

    def fields(self, now: float) -> dict[str, Any]:
        """Return the console as the API returns it at this time of day."""
        since = max(0.0, self.entry.since)
        found: dict[str, Any] = {name: read(self) for name, read in _COLUMNS.items()}
        return {**found, "since": since, "age": round(max(0.0, now - since), 1)}


def _of_entry(name: str) -> Callable[[SessionRow], Any]:
    return lambda row: getattr(row.entry, name)


def _of_figures(name: str) -> Callable[[SessionRow], Any]:
    return lambda row: None if row.rates is None else getattr(row.rates.figures, name)


_COLUMNS: Mapping[str, Callable[[SessionRow], Any]] = {
    "id": _of_entry("session"),
    "since": _of_entry("since"),
    **{
        name: _of_entry(name)
        for name in (
            *("principal", "authenticator", "client", "listener", "upstream", "host", "console", "link"),
        )
    },
    "console_name": _of_entry("shown_console"),
    "idle": _of_figures("idle"),
    "bytes_up": _of_figures("octets_up"),
    "bytes_down": _of_figures("octets_down"),
    "rate_up": lambda row: None if row.rates is None else row.rates.up,
    "rate_down": lambda row: None if row.rates is None else row.rates.down,
    "round_trip": _of_figures("round_trip"),
    "state": lambda row: row.state,
    "machine": lambda row: row.process.machine,
    "worker": lambda row: row.process.worker,
}


class SessionCounts:
    """Numbers of open consoles."""

    def __init__(self, rows: Sequence[SessionRow]) -> None:
        self.by_upstream: Counter[str] = Counter()
        self.by_listener: Counter[str] = Counter()
        self.by_host: Counter[tuple[str, str]] = Counter()
        """By the upstream and the name of the host."""
        self._by_name: Counter[str] = Counter()
        self._by_run: Counter[tuple[str, str]] = Counter()
        for row in rows:
            entry, process = row.entry, row.process
            self.by_upstream[entry.upstream] += 1
            self.by_listener[entry.listener] += 1
            self.by_host[entry.upstream, entry.host] += 1
            self._by_name.update(set(map(host_key, entry.host_names)))
            self._by_run[process.run, entry.listener] += 1
            self._by_run[process.run, ""] += 1

    def covered_by(self, drain: Drain) -> int:
        """Return the number of consoles that use what is drained."""
        if drain.kind is DrainKind.HOST:
            return self._by_name[drain.name]
        if drain.kind is DrainKind.UPSTREAM:
            return self.by_upstream[drain.name]
        return self._by_run[drain.run, drain.name]


@dataclass(frozen=True)
class SessionSnapshot:
    """All open consoles at one time, the oldest first."""

    rows: Sequence[SessionRow]

    @cached_property
    def counts(self) -> SessionCounts:
        """The numbers of consoles by what they use."""
        return SessionCounts(self.rows)

    @cached_property
    def rates(self) -> tuple[float, float] | None:
        """Bytes a second of all consoles each way, None while no rate is known."""
        known = [row.rates for row in self.rows if row.rates is not None and row.rates.up is not None]
        if not known:
            return None
        return sum(rates.up or 0.0 for rates in known), sum(rates.down or 0.0 for rates in known)

    def find(self, session: str) -> SessionRow | None:
        """Return the console with this id."""
        return next((row for row in self.rows if row.entry.session == session), None)


class SessionLister:
    """Makes snapshots, and keeps of the one before what the next one needs."""

    def __init__(self) -> None:
        self._rates: dict[str, Rates] = {}
        self._words: dict[str, str] = {}

    def snapshot(
        self,
        entries: Sequence[SessionEntry],
        processes: Mapping[str, ProcessReport],
        figures: Mapping[str, ConsoleFigures],
        drained: DrainedParts,
    ) -> SessionSnapshot:
        """Return the consoles of these entries, with the figures that were reported of them."""
        words, rates, rows = {}, {}, []
        for entry in entries:
            session = entry.session
            process = processes.get(entry.holder, _UNKNOWN)
            words[session] = text = self._words.get(session) or _words(entry, process)
            found: Rates | None = None
            if (measured := figures.get(session)) is not None:
                before = self._rates.get(session)
                found = rates[session] = Rates(measured) if before is None else before.following(measured)
            covered = bool(drained) and drained.covers(entry, process)
            rows.append(SessionRow(entry, process, found, covered, text))
        self._words, self._rates = words, rates
        return SessionSnapshot(rows)


def _words(entry: SessionEntry, process: ProcessReport) -> str:
    """Return the texts of a console in lower case."""
    section = entry.authenticator.partition(" ")[2]
    return "\n".join(
        (
            *(entry.session, f"{section}/{entry.principal}", entry.client, entry.listener, entry.upstream),
            *(entry.host, entry.console, entry.console_name, entry.link, process.machine, process.worker),
        )
    ).lower()

"""The values that each process puts into the shared state for the admin service: its identity and figures.

Every value is JSON.  A reader ignores fields of other versions, and what it cannot read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.stored_json import is_number, read_json, typed_fields

ADMIN_SPACE, WATCHED = "admin", "watched"
"""Space and key of the mark that says that the figures of consoles are read now."""
WATCHED_LIFE = 15.0
"""Seconds for which the mark counts."""
SCRAPED = "scraped"
"""Key of the mark that says that metrics are read now."""
SCRAPED_LIFE = 90.0
"""Seconds for which this mark counts.  Prometheus reads every 15 s to 60 s."""
PROCESSES = "processes"
"""Space of the processes, by the id of each in the state."""
REPORT_INTERVAL = 5.0
"""Seconds between two reports of a process."""
PROCESS_LIFE = 15.0
"""Seconds for which the report of a process counts."""
FIGURES = "figures"
"""Space of the figures of consoles, in chunks: the id of the process, and a number."""
FIGURES_INTERVAL = 2.0
"""Seconds between two reports of the figures of consoles, while they are read."""
FIGURES_LIFE = 7.0
"""Seconds for which these figures count."""
FIGURES_CHUNK = 1000
"""Consoles in one chunk."""


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """A process that shares the state.

    ``worker`` is its number on the machine as text, or ``admin``.  ``started`` is a time of day, and ``lag``
    the longest delay of its event loop since the report before, in seconds.  ``accepting`` is whether it
    accepts connections, and ``sessions`` the number of its open consoles.
    """

    machine: str = ""
    run: str = ""
    worker: str = ""
    generation: int = 0
    pid: int = 0
    version: str = ""
    started: float = 0.0
    accepting: bool = False
    sessions: int = 0
    lag: float | None = None

    def encode(self) -> str:
        """Return the report as it is stored."""
        return json.dumps(asdict(self))

    @classmethod
    def of(
        cls,
        identity: ProcessIdentity,
        version: str,
        started: float,
        accepting: bool,
        lag: float,
        sessions: int = 0,
    ) -> Self:
        """Return the report of the process that calls this, and has this identity."""
        return cls(
            *(identity.machine, identity.run, identity.worker, identity.generation, os.getpid()),
            *(version, started, accepting, sessions, lag),
        )

    @classmethod
    def decode(cls, text: str) -> Self | None:
        """Return a stored report, or None if it is none."""
        return cls(**typed_fields(cls, found)) if isinstance(found := read_json(text), dict) else None


@dataclass(frozen=True, slots=True)
class ProcessTotals:
    """The totals of one process since its start, as ``IState.report`` takes them.

    ``at`` is the time of day.  ``sessions`` are open consoles, ``opened`` consoles, and ``failed`` sessions
    that ended with an error.  ``round_trip`` is the median of the last minute, in seconds.
    """

    at: float = 0.0
    sessions: float = 0
    opened: float = 0
    failed: float = 0
    octets_up: float = 0
    octets_down: float = 0
    lag: float | None = None
    round_trip: float | None = None

    def figures(self) -> Mapping[str, float]:
        """Return the totals by name, without those that are unknown."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, figures: Mapping[str, float]) -> Self:
        """Return the totals of stored figures."""
        return cls(**typed_fields(cls, figures))


@dataclass(frozen=True, slots=True)
class ConsoleFigures:
    """The figures of one open console at a time of day.  ``idle`` and ``round_trip`` are in seconds."""

    at: float
    octets_up: int
    octets_down: int
    idle: float
    round_trip: float | None
    is_stalled: bool


@dataclass(frozen=True, slots=True)
class ConsoleSample:
    """The figures of one open console, as its process reports them."""

    session: str
    octets_up: int
    octets_down: int
    idle: float
    round_trip: float | None
    is_stalled: bool

    def encode(self) -> list[Any]:
        """Return the sample as a short list: the round trip is in microseconds, the idle time in tenths."""
        trip = None if self.round_trip is None else round(self.round_trip * 1e6)
        return [
            self.session,
            self.octets_up,
            self.octets_down,
            round(self.idle, 1),
            trip,
            int(self.is_stalled),
        ]


def encode_figures(at: float, samples: Sequence[ConsoleSample]) -> str:
    """Return the chunk with the figures of these consoles at this time of day."""
    return json.dumps({"at": at, "consoles": [sample.encode() for sample in samples]}, separators=(",", ":"))


def decode_figures(text: str) -> Mapping[str, ConsoleFigures]:
    """Return the figures of the consoles in a chunk, by the id of the session."""
    chunk = read_json(text)
    if not isinstance(chunk, dict):
        return {}
    at, rows = chunk.get("at"), chunk.get("consoles")
    if at is None or not is_number(at) or not isinstance(rows, list):
        return {}
    return dict(found for row in rows if (found := _console(at, row)) is not None)


def newest_figures(chunks: Iterable[Mapping[str, ConsoleFigures]]) -> Mapping[str, ConsoleFigures]:
    """Return the newest figures of each console in these chunks: a console may have moved to another one."""
    found: dict[str, ConsoleFigures] = {}
    for chunk in chunks:
        for session, figures in chunk.items():
            if (before := found.get(session)) is None or before.at <= figures.at:
                found[session] = figures
    return found


def _console(at: float, row: Any) -> tuple[str, ConsoleFigures] | None:
    if not isinstance(row, list) or len(row) < 6:
        return None
    session, up, down, idle, trip, stalled = row[:6]
    if not (isinstance(session, str) and is_number(up) and is_number(down) and is_number(idle)):
        return None
    if not (is_number(stalled) and (trip is None or is_number(trip))):
        return None
    seconds = None if trip is None else trip / 1e6
    return session, ConsoleFigures(at, int(up), int(down), float(idle), seconds, bool(stalled))

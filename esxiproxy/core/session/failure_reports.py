"""The newest failures of each process in the shared state, in chunks that outlast the process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from esxiproxy.core.session.stored_json import read_json, typed_fields

FAILURES = "failures"
"""Space of the newest failures of each process, in chunks: the id of the process, and a number."""
FAILURE_CHUNKS = 10
"""Chunks of a process."""
FAILURE_CHUNK = 100
"""Failures in a chunk."""
MAX_FAILURES = FAILURE_CHUNKS * FAILURE_CHUNK
"""Failures that a process keeps, and that the admin service shows."""
FAILURES_LIFE = 86400.0
"""Seconds for which failures are kept, also after the end of their process."""
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A session that ended with an error, as its record has it.  ``time`` is the time of day of its end.

    ``machine`` is set only for a session of another machine, which died.
    """

    time: float = 0.0
    session: str = ""
    error: str = ""
    detail: str = ""
    status: int = 0
    close_code: int | None = None
    client: str = ""
    principal: str = ""
    listener: str = ""
    upstream: str = ""
    host: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class FailureChunk:
    """Some failures of one process."""

    machine: str = ""
    worker: str = ""
    failures: Sequence[FailureReport] = ()

    def encode(self) -> str:
        """Return the chunk as it is stored; long texts are cut."""
        names = FailureReport.__slots__  # asdict() takes five times as long
        rows = [{name: _cut(getattr(failure, name)) for name in names} for failure in self.failures]
        return json.dumps({"machine": self.machine, "worker": self.worker, "failures": rows})

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return a stored chunk, which is empty if it cannot be read."""
        found = read_json(text)
        if not isinstance(found, dict) or not isinstance(rows := found.get("failures"), list):
            return cls()
        machine, worker = (found.get(name, "") for name in ("machine", "worker"))
        failures = [
            FailureReport(**typed_fields(FailureReport, row)) for row in rows if isinstance(row, dict)
        ]
        if not isinstance(machine, str) or not isinstance(worker, str):
            return cls("", "", failures)
        return cls(machine, worker, failures)


def _cut(value: object) -> object:
    return value[:_LONGEST] if isinstance(value, str) else value

"""Stand-ins for the sinks of logs, and the lines of the process's own log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from esxiproxy.ops.logs.sink import Losses, Sink


class ScriptedSink(Sink):
    """A sink whose writes have the results that the test sets: a number of bytes, an error, or all bytes."""

    def __init__(self, clock: Any, *answers: int | Exception, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self.answers = list(answers)
        self.got = b""

    def write(self, octets: bytes) -> int:
        """Accept as many bytes as the next result says, or raise it."""
        answer = self.answers.pop(0) if self.answers else len(octets)
        if isinstance(answer, Exception):
            raise answer
        self.got += octets[:answer]
        return min(answer, len(octets))


@contextlib.contextmanager
def process_log() -> Iterator[list[str | None]]:
    """Collect the lines of the process's log."""
    lines: list[str | None] = []

    def observer(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observer)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observer)

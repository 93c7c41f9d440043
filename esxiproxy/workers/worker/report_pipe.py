"""The pipe from a worker to the master, to which writing never blocks."""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

MAX_BUFFERED = 1 << 20
"""Bytes that are buffered while the pipe is full; later log lines are dropped."""
RETRY_INTERVAL = 0.05
"""Seconds between two attempts to write into a full pipe."""


@implementer(ILogObserver)
class ReportPipe:
    """A log observer, and a writer of reports, that sends JSON lines to the master.

    Lines that do not fit into the pipe are buffered.  When the buffer is full, log lines are dropped and
    counted; their number is logged when the master reads again.  When the master has exited, all lines are
    dropped.
    """

    def __init__(self, descriptor: int, clock: IReactorTime) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._retry: IDelayedCall | None = None
        os.set_blocking(descriptor, False)

    def send(self, kind: str, *content: Any) -> None:
        """Send a report, whose content has to be serialisable as JSON."""
        self._buffer.append(json.dumps([kind, *content]).encode() + b"\n")
        self._size += len(self._buffer[-1])
        if self._retry is None:
            self.flush()

    def __call__(self, event: LogEvent) -> None:
        """Send a log event, or drop and count it when the buffer is full."""
        if self._size > MAX_BUFFERED:
            self._dropped += 1
            return
        level = event.get("log_level") or LogLevel.info
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level.name}"
        self.send("log", level.name, str(system), event.get("log_time"), text)

    def flush(self) -> None:
        """Write as much of the buffer as the pipe takes."""
        self._retry = None
        while self._buffer:
            line = self._buffer.popleft()
            self._size -= len(line)
            try:
                taken = os.write(self._descriptor, line)
            except BlockingIOError:
                taken = 0
            except OSError:  # the master has exited
                continue
            if taken < len(line):
                self._buffer.appendleft(line[taken:])
                self._size += len(line) - taken
                self._retry = self._clock.callLater(RETRY_INTERVAL, self.flush)
                return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.send(
                "log",
                "warn",
                __name__,
                None,
                f"{dropped} log lines dropped: the master did not read them in time",
            )

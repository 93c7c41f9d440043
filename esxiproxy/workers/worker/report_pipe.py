"""What a worker tells the master: lines that never wait for it."""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

MOST = 1 << 20
"""Bytes of lines that wait for a master that reads none; log lines that come after them are lost."""
RETRY = 0.05


@implementer(ILogObserver)
class ReportPipe:
    """Writes lines into a pipe, and keeps what it does not take; a master that is gone hears nothing.

    It is an observer of Twisted's logger.  What a full pipe has cost is told when it is read again.
    """

    def __init__(self, descriptor: int, reactor: Any) -> None:
        self._descriptor = descriptor
        self._reactor = reactor
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._retry: IDelayedCall | None = None
        os.set_blocking(descriptor, False)

    def send(self, kind: str, *content: Any) -> None:
        """Send one report."""
        self._waiting.append(json.dumps([kind, *content]).encode() + b"\n")
        self._size += len(self._waiting[-1])
        if self._retry is None:
            self.flush()

    def __call__(self, event: LogEvent) -> None:
        """Send a log event, or count it."""
        if self._size > MOST:
            self._lost += 1
            return
        level = event.get("log_level") or LogLevel.info
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level.name}"
        self.send("log", level.name, str(system), event.get("log_time"), text)

    def flush(self) -> None:
        """Write what can be written now."""
        self._retry = None
        while self._waiting:
            line = self._waiting.popleft()
            self._size -= len(line)
            try:
                taken = os.write(self._descriptor, line)
            except BlockingIOError:
                taken = 0
            except OSError:  # the master is gone
                continue
            if taken < len(line):
                self._waiting.appendleft(line[taken:])
                self._size += len(line) - taken
                self._retry = self._reactor.callLater(RETRY, self.flush)
                return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.send("log", "warn", __name__, None, f"{lost} log lines lost: the master reads none")

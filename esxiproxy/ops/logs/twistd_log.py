"""The process's own log, twistd's: it goes where twistd is told to write it, and nobody waits for that."""

from __future__ import annotations

import atexit
import sys
import syslog
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    formatEventAsClassicLogText,
)
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.datagram_sink import SyslogSink
from esxiproxy.ops.logs.file_sink import RotatedFileSink, StdoutSink
from esxiproxy.ops.logs.sink import Losses, Sink

STOP_TIMEOUT = 1.0
"""Seconds that a slow reader has, at the end of the process, for what still waits."""


@implementer(ILogObserver)
class TwistdLog:
    """Takes twistd's place as the observer of its log; an event looks as twistd's own would make it look.

    What is lost is told of in the log itself, when everything before it has been written.
    """

    def __init__(self, reactor: Any, sink: Sink, losses: Losses) -> None:
        """The sink, whose losses these are, is opened; raises OSError."""
        self._reactor = reactor
        self._sink = sink
        self._losses = losses
        self._lines = 1
        self._exit_timeout = STOP_TIMEOUT
        self._log = Logger(namespace=__name__, observer=cast(ILogObserver, self._write))
        sink.open()

    def __call__(self, event: LogEvent) -> None:
        """Write an event, or count it."""
        if threading.current_thread() is not threading.main_thread() and self._exit_timeout:
            self._reactor.callFromThread(self, event)  # while there is a loop, which is in the main thread
            return
        if (
            self._losses.lines and self._sink.has_queued
        ):  # one gap, and not one for each line that has no place
            self._losses.add(1, self._losses.reason)
            return
        self._report_losses()
        self._write(event)

    def _report_losses(self) -> None:
        if self._losses.lines:
            told, self._lines, self._losses.lines = str(self._losses), self._losses.lines, 0
            self._log.warn("the log itself: {losses}", losses=told)
            self._lines = 1

    def reopen(self) -> None:
        """Go on in a new file, where it is a file."""
        self._sink.reopen(_reopened)

    def flush_at_exit(self) -> None:
        """Write in a thread while the loop runs, and wait for a slow reader when loop or process has ended.

        The wait happens once, and not for long.
        """
        self._reactor.callWhenRunning(self._sink.reactor_started)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._finish)
        atexit.register(self._finish)

    def _finish(self) -> None:
        patience, self._exit_timeout = self._exit_timeout, 0.0
        self._sink.flush_blocking(patience)
        if not self._sink.has_queued:
            self._report_losses()

    def _put(self, octets: bytes) -> None:
        self._sink.put(octets, self._lines)

    def _write(self, event: LogEvent) -> None:
        raise NotImplementedError


class TextLog(TwistdLog):
    """A file, or the standard output."""

    def __init__(self, reactor: Any, sink: Sink, losses: Losses, encoding: str = "utf-8") -> None:
        super().__init__(reactor, sink, losses)
        self._encoding = encoding

    def _write(self, event: LogEvent) -> None:
        text = formatEventAsClassicLogText(event)
        if text:
            self._put(text.encode(self._encoding, "backslashreplace"))


class SystemLog(TwistdLog, SyslogObserver):
    """Syslog; Twisted's observer makes the lines, and would have the C library send them, which waits."""

    def __init__(self, reactor: Any, sink: SyslogSink, losses: Losses) -> None:
        TwistdLog.__init__(self, reactor, sink, losses)
        self._datagram = sink.datagram
        self._legacy = LegacyLogObserverWrapper(cast(Any, self.emit))

    def syslog(self, priority: int, line: str) -> None:
        """What ``emit`` calls for each line."""
        facility = priority & ~7 or syslog.LOG_USER
        self._put(self._datagram(facility | priority & 7, line, time.time()))

    def _write(self, event: LogEvent) -> None:
        self._legacy(event)


def twistd_log(twistd: Mapping[str, Any] | None, reactor: Any) -> TwistdLog | None:
    """The log that twistd's options ask for; None where that is not ours to say.  Raises CannotStart."""
    if twistd is None or "nodaemon" not in twistd or twistd["logger"]:
        return None
    try:
        log = _log(twistd, reactor)
    except OSError as error:
        raise StartupError(f"the log cannot be opened: {error}") from error
    if log is not None:
        log.flush_at_exit()
    return log


def _log(twistd: Mapping[str, Any], reactor: Any) -> TwistdLog | None:
    losses = Losses()
    if twistd["syslog"]:
        if sys.platform != "linux":  # who knows where it is there, and of what kind
            return None
        return SystemLog(reactor, SyslogSink(reactor, losses=losses, tag=twistd["prefix"]), losses)
    path = twistd["logfile"]
    if path != "-" and (path or not twistd["nodaemon"]):
        return TextLog(reactor, RotatedFileSink(path or "twistd.log", reactor, losses), losses)
    if sys.stdout is None or not twistd["nodaemon"]:  # twistd knows what to say of that
        return None
    return TextLog(reactor, StdoutSink(reactor, losses=losses), losses, sys.stdout.encoding)


def _reopened(error: OSError | None) -> None:
    if error is not None:
        Logger(namespace=__name__).error("the log cannot be rotated: {why}", why=error.strerror)

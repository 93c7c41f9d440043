"""Observers that write the process's log where twistd's options say, without blocking the reactor."""

from __future__ import annotations

import atexit
import sys
import syslog
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    formatEventAsClassicLogText,
    formatTime,
)
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.datagram_sink import SyslogSink
from esxiproxy.ops.logs.file_sink import RotatedFileSink, StdoutSink
from esxiproxy.ops.logs.sink import LogReactor, Losses, Sink

STOP_TIMEOUT = 1.0
"""Seconds that the exit of the process waits for a slow reader of the log."""


@implementer(ILogObserver)
class TwistdLog:
    """The log observer that replaces twistd's, with the same format of lines.

    After lines were lost, a line with their number is written as soon as the queue is empty.
    """

    def __init__(self, reactor: LogReactor, sink: Sink, losses: Losses) -> None:
        """Open the sink, which counts into ``losses``.  Raises OSError."""
        self._reactor = reactor
        self._sink = sink
        self._losses = losses
        self._lines = 1
        self._exit_timeout = STOP_TIMEOUT
        self._log = Logger(namespace=__name__, observer=cast(ILogObserver, self._write))
        sink.open()

    def __call__(self, event: LogEvent) -> None:
        """Write an event, or count it as lost; other threads pass it on to the main thread."""
        if threading.current_thread() is not threading.main_thread() and self._exit_timeout:
            self._reactor.callFromThread(self, event)  # the reactor runs in the main thread
            return
        if (
            self._losses.lines and self._sink.has_queued
        ):  # until the queue is empty, so that the log has one gap
            self._losses.add(1, self._losses.reason)
            return
        self._report_losses()
        self._write(event)

    def _report_losses(self) -> None:
        if self._losses.lines:
            text, self._lines, self._losses.lines = str(self._losses), self._losses.lines, 0
            self._log.warn("process log: {losses}", losses=text)
            self._lines = 1

    def reopen(self) -> None:
        """Rotate the log if it is a file."""
        self._sink.reopen(_reopened)

    def flush_at_exit(self) -> None:
        """Write in a thread while the reactor runs, and flush when the reactor stops or the process exits.

        The first flush waits for a slow reader up to ``STOP_TIMEOUT``, a later one does not wait.
        """
        self._reactor.callWhenRunning(self._sink.reactor_started)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._finish)
        atexit.register(self._finish)

    def _finish(self) -> None:
        timeout, self._exit_timeout = self._exit_timeout, 0.0
        self._sink.flush_blocking(timeout)
        if not self._sink.has_queued:
            self._report_losses()

    def _put(self, octets: bytes) -> None:
        self._sink.put(octets, self._lines)

    def _write(self, event: LogEvent) -> None:
        raise NotImplementedError


class TextLog(TwistdLog):
    """The log in a file or on standard output."""

    def __init__(self, reactor: LogReactor, sink: Sink, losses: Losses, encoding: str = "utf-8") -> None:
        super().__init__(reactor, sink, losses)
        self._encoding = encoding

    def _write(self, event: LogEvent) -> None:
        text = _line_of_session(event) or formatEventAsClassicLogText(event, _time_of)
        if text:
            self._put(text.encode(self._encoding, "backslashreplace"))


class SystemLog(TwistdLog, SyslogObserver):
    """The log in syslog.

    Twisted's SyslogObserver formats the lines.  The sink sends them, as the C library's ``syslog()`` blocks.
    """

    def __init__(self, reactor: LogReactor, sink: SyslogSink, losses: Losses) -> None:
        TwistdLog.__init__(self, reactor, sink, losses)
        self._datagram = sink.datagram
        self._legacy = LegacyLogObserverWrapper(cast(Any, self.emit))

    def syslog(self, priority: int, line: str) -> None:
        """Send a line; SyslogObserver's ``emit`` calls this in place of ``syslog.syslog``."""
        facility = priority & ~7 or syslog.LOG_USER
        self._put(self._datagram(facility | priority & 7, line, time.time()))

    def _write(self, event: LogEvent) -> None:
        self._legacy(event)


_time_of_second = lru_cache(maxsize=2)(formatTime)


def _time_of(when: float | None) -> str:
    """Return a time as Twisted formats it, which is to the second and takes half of the time of a line."""
    return formatTime(when) if when is None else _time_of_second(int(when))


def _line_of_session(event: LogEvent) -> str | None:
    """Return a line of the session log as ``formatEventAsClassicLogText`` does, which takes longer.

    Return None for every other event.
    """
    if event.get("log_format") != "{line}" or not _UNUSUAL.isdisjoint(event):
        return None
    line, level, when = event.get("line"), event.get("log_level"), event.get("log_time")
    if not isinstance(line, str) or not line or level is None or when is None:
        return None
    text = f"{_time_of(when)} [{event.get('log_namespace', '-')}#{level.name}] {line}"
    return text.replace("\n", "\n\t") + "\n"


_UNUSUAL = frozenset({"log_flattened", "log_failure", "log_system"})
"""Keys of events that are formatted in another way."""


def twistd_log(twistd: Mapping[str, Any] | None, reactor: LogReactor) -> TwistdLog | None:
    """Return the log for twistd's options, or None where twistd's own observer is to be used.

    ``twistd`` has twistd's parsed options.  Raises StartupError if the log cannot be opened.
    """
    if twistd is None or "nodaemon" not in twistd or twistd["logger"]:
        return None
    try:
        log = _log(twistd, reactor)
    except OSError as error:
        raise StartupError(f"the log cannot be opened: {error}") from error
    if log is not None:
        log.flush_at_exit()
    return log


def _log(twistd: Mapping[str, Any], reactor: LogReactor) -> TwistdLog | None:
    losses = Losses()
    if twistd["syslog"]:
        if sys.platform != "linux":  # its socket has another path and kind elsewhere
            return None
        return SystemLog(reactor, SyslogSink(reactor, losses=losses, tag=twistd["prefix"]), losses)
    path = twistd["logfile"]
    if path != "-" and (path or not twistd["nodaemon"]):
        return TextLog(reactor, RotatedFileSink(path or "twistd.log", reactor, losses), losses)
    if sys.stdout is None or not twistd["nodaemon"]:  # twistd reports the error
        return None
    return TextLog(reactor, StdoutSink(reactor, losses=losses), losses, sys.stdout.encoding)


def _reopened(error: OSError | None) -> None:
    if error is not None:
        Logger(namespace=__name__).error(
            "the log cannot be rotated: {reason}; writing to the old file continues", reason=error.strerror
        )

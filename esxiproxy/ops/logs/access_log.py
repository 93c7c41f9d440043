"""The access log: one line for each console and each HTTP request, written when it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.config.access_log import AccessLogConfig, AccessLogFormat, LogTarget
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session
from esxiproxy.core.startup import StartupError
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.logs.access_line import as_combined, as_json
from esxiproxy.ops.logs.datagram_sink import JournalSink, SyslogSink
from esxiproxy.ops.logs.file_sink import FileSink, StdoutSink
from esxiproxy.ops.logs.sink import LogReactor, Sink, SinkReactor

_FORMATS = {AccessLogFormat.JSON: as_json, AccessLogFormat.COMBINED: as_combined}
_SINKS: dict[LogTarget, Callable[[SinkReactor], Sink]] = {
    LogTarget.STDOUT: StdoutSink,
    LogTarget.SYSLOG: SyslogSink,
    LogTarget.JOURNALD: JournalSink,
}


class AccessLogError(StartupError):
    """The access log cannot be opened."""


@implementer(ISessionObserver)
class AccessLog(Service):
    """The service that writes the access log; start it before the listeners, and stop it after the sessions.

    The file is opened in ``startService``, after twistd has dropped root, so that a file that cannot be
    reopened later cannot be opened at the start either.  SIGUSR1 reopens a file; the previous handler of the
    signal, twistd's for its own log, is called as well.  ``day`` returns the time of day.
    """

    _log = Logger()

    def __init__(
        self,
        logging: AccessLogConfig,
        reactor: LogReactor,
        make_sink: Callable[[], Sink] | None = None,
        day: Callable[[], float] = time.time,
    ) -> None:
        self.setName("access log")
        self._to = logging.to
        self._line = _FORMATS[logging.format]
        self._reactor = reactor
        self._wall_clock = day
        self._make_sink = make_sink or partial(_create_sink, logging.to, reactor)
        self._sink: Sink | None = None
        self._previous_action: Callable[[int, FrameType | None], Any] | int | None = None

    def startService(self) -> None:
        """Open the log.  Raises AccessLogError."""
        # A new sink for each start: the thread of the previous one may still be writing to its descriptor.
        sink = self._make_sink()
        try:
            sink.open()
        except OSError as error:
            raise AccessLogError(f"access_log: cannot open {self._to}: {error.strerror}") from error
        self._sink = sink
        if isinstance(self._to, Path):
            self._catch_sigusr1()
        super().startService()
        self._reactor.callWhenRunning(self._on_reactor_start)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if signal.getsignal(signal.SIGUSR1) == self._on_signal and self._previous_action is not None:
            with suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGUSR1, self._previous_action)
        sink, self._sink = self._sink, None
        return sink.close() if sink is not None else succeed(None)

    def opened(self, session: Session) -> None:
        """Ignore the start of a session: its line is written when it ends."""

    def closed(self, record: Record) -> None:
        if self._sink is None:
            return
        now = self._wall_clock()
        line = self._line(record, now - record.phases.get("closed", 0.0))
        self._sink.send(line, record, now)

    def reopen(self) -> None:
        """Open the file of the log's name again, or keep the old one if that fails."""
        if self._sink is not None:
            self._sink.reopen(self._log_reopened)

    def _log_reopened(self, error: OSError | None) -> None:
        if error is not None:
            self._log.error(
                "access log: cannot reopen {path}: {reason}; writing to the old file continues",
                path=self._to,
                reason=error.strerror,
            )
        else:
            self._log.info("access log: {path} reopened", path=self._to)

    def _on_reactor_start(self) -> None:
        if self._sink is not None:
            self._sink.reactor_started()

    def _catch_sigusr1(self) -> None:
        try:
            self._previous_action = signal.getsignal(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, self._on_signal)
        except ValueError:  # signal handlers can only be set in the main thread
            self._log.info("access log: not in the main thread, so SIGUSR1 does not reopen it; call reopen()")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.running:
            self._reactor.callFromThread(self.reopen)
        if callable(self._previous_action):
            self._previous_action(number, frame)


def _create_sink(to: Path | LogTarget, reactor: SinkReactor) -> Sink:
    return FileSink(to, reactor) if isinstance(to, Path) else _SINKS[to](reactor)

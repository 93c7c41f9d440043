"""The process of a worker, as a process protocol in the master."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from esxiproxy.workers.shared.lines import LineSplitter
from esxiproxy.workers.shared.messages import COMMANDS_FD, REPORTS_FD, WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.signal_mask import signals_blocked

OUTPUT, ERRORS = 1, 2
_LAST_LINES_TIMEOUT = 0.5
"""Seconds for which the pipes of an exited worker are read, since its own children may keep them open."""
_NOT_INHERITED = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)
"""Environment variables of systemd, which are for the master only."""


class WorkerEvents(Protocol):
    """The events of a worker, which its generation handles."""

    def ready(self, child: WorkerProcess) -> None:
        """Handle that the worker waits for the command to open."""

    def closed(self, child: WorkerProcess) -> None:
        """Handle that the worker has stopped accepting connections."""

    def ended(self, child: WorkerProcess) -> None:
        """Handle that the process has exited."""


class WorkerProcess(ProcessProtocol):
    """A worker process, which receives commands, and whose reports are read.

    Log lines are written into the master's log.
    """

    _log = Logger()

    def __init__(self, worker_config: WorkerConfig, events: WorkerEvents, reactor: Any) -> None:
        self.number = worker_config.number
        self.started_at = reactor.seconds()
        self.instance_id = ""
        """The worker's instance ID in the shared state, empty until the worker is ready."""
        self.has_stopped_accepting = False
        self.recording: set[str] = set()
        """Instance IDs of crashed workers whose sessions this worker is recording."""
        self.exit_reason = ""
        """Why the worker exited; empty while it runs and after an exit with status 0."""
        self._config = worker_config
        self._events = events
        self._reactor = reactor
        self._errors, self._reports = LineSplitter(), LineSplitter()
        self._last_lines = ""
        self._reason: Failure | None = None
        self._exit_timer: IDelayedCall | None = None

    def start(self, handed_down: Mapping[int, int]) -> None:
        """Start the process.  Raises OSError.

        ``handed_down`` maps each inherited descriptor, as its number in the worker, to a descriptor of this
        process.
        """
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        command = [sys.executable, "-P", "-m", "esxiproxy.workers", str(self.number), self._config.config]
        nothing = os.open(os.devnull, os.O_RDONLY)
        pipes: dict[int, int | str] = {
            0: nothing,
            OUTPUT: OUTPUT,
            ERRORS: "r",
            COMMANDS_FD: "w",
            REPORTS_FD: "r",
        }
        try:
            with signals_blocked():
                self._reactor.spawnProcess(
                    self, command[0], command, environment, childFDs={**pipes, **handed_down}
                )
        finally:
            os.close(nothing)

    def send_command(self, command: WorkerCommand, *arguments: str) -> None:
        """Send a command; a worker that has exited does not receive it."""
        if command is WorkerCommand.RECORD_LOST:
            self.recording.update(arguments)
        self._write(json.dumps([command.value, *arguments]).encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has exited."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(number.value)

    def __str__(self) -> str:
        return f"worker {self.number}"

    # Called by Twisted

    def connectionMade(self) -> None:
        self._write(self._config.line())

    def childDataReceived(self, descriptor: int, octets: bytes) -> None:
        if descriptor == REPORTS_FD:
            for message in self._reports.messages(octets):
                self._report_received(*message)
        else:
            for line in self._errors.feed(octets):
                self._log_error_line(line)

    def processExited(self, reason: Failure) -> None:
        self._reason = reason
        self._exit_timer = self._reactor.callLater(_LAST_LINES_TIMEOUT, self._ended)

    def processEnded(self, reason: Failure) -> None:
        self._reason = reason
        if self._exit_timer is not None and self._exit_timer.active():
            self._exit_timer.cancel()
            self._ended()

    @property
    def _process(self) -> Any:
        return self.transport

    def _write(self, octets: bytes) -> None:
        with suppress(KeyError):  # the process has exited, and the pipe is closed
            self._process.writeToChild(COMMANDS_FD, octets)

    def _report_received(self, kind: str, *content: Any) -> None:
        if kind == "log":
            self._forward_log_event(*content)
        elif kind == "ready":
            (self.instance_id,) = content
            self._events.ready(self)
        elif kind == "shut":
            self.has_stopped_accepting = True
            self._events.closed(self)
        elif kind == "buried":
            self.recording.difference_update(content)

    def _forward_log_event(self, level: str, system: str, time: float | None, text: str) -> None:
        event: dict[str, Any] = {
            "log_level": LogLevel.lookupByName(level),
            "log_namespace": __name__,
            "log_system": system,
            "log_format": "worker {number}: {text}",
            "number": self.number,
            "text": text,
        }
        if time is not None:
            event["log_time"] = time
        self._log.observer(event)

    def _log_error_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self._last_lines = text
            self._log.warn("worker {number}: {text}", number=self.number, text=text)

    def _ended(self) -> None:
        assert self._reason is not None
        for line in self._errors.feed(b"\n"):
            self._log_error_line(line)
        self.exit_reason = _exit_reason(self._reason.value)
        if self.exit_reason and self._last_lines:
            self.exit_reason += f": {self._last_lines}"
        self._events.ended(self)


def _exit_reason(error: BaseException) -> str:
    if not isinstance(error, ProcessTerminated):
        return ""
    if error.signal is not None:
        return f"killed by {signal.Signals(error.signal).name}"
    return f"ended with status {error.exitCode}"

"""A child process of the master, as a process protocol: its pipes, its log lines and its exit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from esxiproxy.ops.metrics.files import ENVIRONMENT as METRICS
from esxiproxy.workers.shared.lines import LineSplitter
from esxiproxy.workers.shared.messages import COMMANDS_FD, REPORTS_FD, json_line
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.shared.signal_mask import signals_blocked

OUTPUT, ERRORS = 1, 2
_LAST_LINES_TIMEOUT = 0.5
"""Seconds for which the pipes of an exited process are read, since its own children may keep them open."""
_NOT_INHERITED = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    METRICS,
)
"""Environment variables that are for the master only, or that the master sets itself."""


class ChildProcess(ProcessProtocol):
    """A child process, which receives its configuration and then commands, and whose reports are read.

    Its log lines are written into the master's log.  ``argument`` tells the kinds of children apart in the
    list of processes.  ``environment`` has additional variables.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        argument: str,
        path: str,
        config: bytes,
        reactor: IProcessReactor,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.started_at = reactor.seconds()
        self.instance_id = ""
        """The instance ID of the process in the shared state, empty until the process is ready."""
        self.exit_reason = ""
        """Why the process exited; empty while it runs and after an exit with status 0."""
        self._name = name
        self._command = [sys.executable, "-P", "-m", "esxiproxy.workers", argument, path]
        self._config = config
        self._environment = environment
        self._reactor = reactor
        self._errors, self._reports = LineSplitter(), LineSplitter()
        self._last_lines = ""
        self._reason: Failure | None = None
        self._exit_timer: IDelayedCall | None = None

    def start(self, handed_down: Mapping[int, int]) -> None:
        """Start the process.  Raises OSError.

        ``handed_down`` maps each inherited descriptor, as its number in the child, to a descriptor of this
        process.
        """
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
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
                    self,
                    self._command[0],
                    self._command,
                    {**inherited, **self._environment},
                    childFDs={**pipes, **handed_down},
                )
        finally:
            os.close(nothing)

    @property
    def pid(self) -> int:
        """The process id, 0 before the start and after the exit."""
        return self._process.pid or 0 if self._process is not None else 0

    def send(self, kind: str, *arguments: Any) -> None:
        """Send a command; a process that has exited does not receive it."""
        self._write(json_line([kind, *arguments]))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has exited."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(number.value)

    def __str__(self) -> str:
        return self._name

    # Defined by the kind of the child

    def on_report(self, kind: str, *content: Any) -> None:
        """Handle a report."""
        raise NotImplementedError

    def on_end(self) -> None:
        """Handle that the process has exited."""
        raise NotImplementedError

    # Called by Twisted

    def connectionMade(self) -> None:
        self._write(self._config)

    def childDataReceived(self, descriptor: int, octets: bytes) -> None:
        if descriptor == REPORTS_FD:
            for kind, *content in self._reports.messages(octets):
                if kind == "log":
                    self._forward_log_event(*content)
                else:
                    self.on_report(kind, *content)
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

    def _forward_log_event(self, level: str, system: str, time: float | None, text: str) -> None:
        event: dict[str, Any] = {
            "log_level": LogLevel.lookupByName(level),
            "log_namespace": __name__,
            "log_system": system,
            "log_format": "{process}: {text}",
            "process": self._name,
            "text": text,
        }
        if time is not None:
            event["log_time"] = time
        self._log.observer(event)

    def _log_error_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self._last_lines = text
            self._log.warn("{process}: {text}", process=self._name, text=text)

    def _ended(self) -> None:
        assert self._reason is not None
        for line in self._errors.feed(b"\n"):
            self._log_error_line(line)
        self.exit_reason = _exit_reason(self._reason.value)
        if self.exit_reason and self._last_lines:
            self.exit_reason += f": {self._last_lines}"
        self.on_end()


def _exit_reason(error: BaseException) -> str:
    if not isinstance(error, ProcessTerminated):
        return ""
    if error.signal is not None:
        return f"killed by {signal.Signals(error.signal).name}"
    return f"ended with status {error.exitCode}"

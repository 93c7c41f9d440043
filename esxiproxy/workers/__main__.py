"""``python -m esxiproxy.workers NUMBER CONFIG``: the program of a worker, which only the master starts.

The arguments only identify the worker in a list of processes.  The worker reads its configuration from
descriptor 3.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import os
import signal
import sys
from typing import Any

from twisted.internet.process import ProcessReader, reapAllProcesses
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.process.clock import make_monotonic
from esxiproxy.ops.process.threads import Threads
from esxiproxy.workers.shared.lines import LineSplitter
from esxiproxy.workers.shared.messages import COMMANDS_FD, REPORTS_FD, WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.signal_mask import unblock_signals
from esxiproxy.workers.worker.report_pipe import ReportPipe
from esxiproxy.workers.worker.shutdown import Shutdown
from esxiproxy.workers.worker.worker import Worker


class CommandReader:
    """The process protocol that passes the master's commands to the worker.

    The pipe is closed when the master exits.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lines = LineSplitter()

    def childDataReceived(self, name: Any, octets: bytes) -> None:
        for command, *arguments in self._lines.messages(octets):
            self._worker.command_received(WorkerCommand(command), *arguments)

    def childConnectionLost(self, name: Any, reason: Failure) -> None:
        self._worker.master_lost()


def main() -> int:
    """Run a worker until it has ended, and return the exit status: 1 when it cannot start, 0 otherwise."""
    for descriptor in (COMMANDS_FD, REPORTS_FD):
        os.set_inheritable(descriptor, False)
    # The import installs the reactor, which only a program may do, not a library.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    make_monotonic(reactor)
    reports = ReportPipe(REPORTS_FD, reactor)
    globalLogBeginner.beginLoggingTo([reports], redirectStandardIO=False)
    shutdown = Shutdown(reactor)
    _install_signal_handlers(shutdown, reactor)
    line, rest = _read_first_line(COMMANDS_FD)
    worker_config = WorkerConfig.read(line)
    try:
        config = load_checked(worker_config.config, worker_config.content.encode() or None)
        worker = Worker(worker_config, config, reactor, reports, shutdown.begin)
        Threads(reactor).startService()
        worker.privilegedStartService()
        worker.startService()
    except (ConfigError, StartupError) as error:
        print(error, file=sys.stderr)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", worker.stopService)
    commands = CommandReader(worker)
    ProcessReader(reactor, commands, "commands", COMMANDS_FD)
    reactor.callWhenRunning(commands.childDataReceived, "commands", rest)
    shutdown.abort = worker.abort
    reactor.run(installSignalHandlers=False)
    reports.flush()
    return 0


def _install_signal_handlers(shutdown: Shutdown, reactor: Any) -> None:
    """Install all signal handlers, then unblock the signals.

    Twisted's own handlers are not used: those for SIGTERM and SIGINT do not distinguish the first signal from
    the second, and Twisted installs the one for SIGCHLD only together with them.
    """
    for number in (signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: reactor.callFromThread(reapAllProcesses))
    shutdown.install_handlers()
    unblock_signals()


def _read_first_line(descriptor: int) -> tuple[bytes, bytes]:
    """Read until the first line is complete, and return it with the bytes that were read after it."""
    octets = bytearray()
    while b"\n" not in (chunk := os.read(descriptor, 1 << 16)):
        if not chunk:
            sys.exit(0)  # the master has exited
        octets += chunk
    line, _, rest = bytes(octets + chunk).partition(b"\n")
    return line, rest


if __name__ == "__main__":
    sys.exit(main())

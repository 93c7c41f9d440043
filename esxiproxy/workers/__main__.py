"""``python -m esxiproxy.workers NUMBER CONFIG``: the program of a worker, which only the master starts.

With ``admin`` in place of the number it is the program of the admin process.  The arguments identify the
process in a list of processes.  It reads its configuration from descriptor 3.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.process import ProcessReader, reapAllProcesses
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.process.clock import make_monotonic
from esxiproxy.ops.process.threads import Threads
from esxiproxy.workers.shared.admin_messages import ADMIN, AdminConfig
from esxiproxy.workers.shared.lines import LineSplitter
from esxiproxy.workers.shared.messages import COMMANDS_FD, REPORTS_FD, WorkerConfig
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.shared.signal_mask import unblock_signals
from esxiproxy.workers.worker.report_pipe import ReportPipe
from esxiproxy.workers.worker.shutdown import Shutdown

if TYPE_CHECKING:
    from esxiproxy.workers.admin.admin_worker import AdminWorker
    from esxiproxy.workers.worker.worker import Worker


class CommandReader:
    """The process protocol that passes the master's commands to the service of this process.

    The pipe is closed when the master exits.
    """

    def __init__(self, worker: Worker | AdminWorker) -> None:
        self._worker = worker
        self._lines = LineSplitter()

    def childDataReceived(self, name: Any, octets: bytes) -> None:
        for command, *arguments in self._lines.messages(octets):
            self._worker.command_received(command, *arguments)

    def childConnectionLost(self, name: Any, reason: Failure) -> None:
        self._worker.master_lost()


def main() -> int:
    """Run the process until it has ended, and return its exit status: 1 when it cannot start, 0 otherwise."""
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
    make: Any = _make_admin if sys.argv[1:2] == [ADMIN] else _make_worker
    try:
        worker: Worker | AdminWorker = make(line, reactor, reports, shutdown.begin)
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


def _make_worker(line: bytes, *arguments: Any) -> Worker:
    """Return the service of a worker.  Raises ConfigError or StartupError."""
    from esxiproxy.workers.worker.worker import Worker  # the admin process starts faster without it

    given = WorkerConfig.read(line)
    return Worker(given, load_checked(given.config, given.content.encode() or None), *arguments)


def _make_admin(line: bytes, *arguments: Any) -> AdminWorker:
    """Return the service of the admin process.  Raises ConfigError or StartupError."""
    from esxiproxy.workers.admin.admin_worker import AdminWorker

    given = AdminConfig.read(line)
    return AdminWorker(given, load_checked(given.config, given.content.encode() or None), *arguments)


def _install_signal_handlers(shutdown: Shutdown, reactor: IProcessReactor) -> None:
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

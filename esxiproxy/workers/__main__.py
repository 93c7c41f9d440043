"""``python -m esxiproxy.workers NUMBER CONFIG``: a worker, for the master that has started it.

The arguments are for whoever looks at a list of processes; what counts is the order on descriptor 3.
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
from esxiproxy.workers.shared import signal_mask as deafness
from esxiproxy.workers.shared.lines import Lines
from esxiproxy.workers.shared.messages import COMMANDS_FD, REPORTS_FD, WorkerCommand, WorkerConfig
from esxiproxy.workers.worker.report_pipe import ReportPipe
from esxiproxy.workers.worker.shutdown import Shutdown
from esxiproxy.workers.worker.worker import Worker


class CommandReader:
    """Reads what the master says, which ends with the master."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lines = Lines()

    def childDataReceived(self, name: Any, octets: bytes) -> None:
        for word, *content in self._lines.messages(octets):
            self._worker.command_received(WorkerCommand(word), *content)

    def childConnectionLost(self, name: Any, reason: Failure) -> None:
        self._worker.master_lost()


def main() -> int:
    """Run until the worker has ended; the exit status."""
    for descriptor in (COMMANDS_FD, REPORTS_FD):
        os.set_inheritable(descriptor, False)
    # Importing the reactor installs it: only a program of its own may do that.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    make_monotonic(reactor)
    reports = ReportPipe(REPORTS_FD, reactor)
    globalLogBeginner.beginLoggingTo([reports], redirectStandardIO=False)
    ending = Shutdown(reactor)
    _hear(ending, reactor)
    line, more = _line(COMMANDS_FD)
    order = WorkerConfig.read(line)
    try:
        config = load_checked(order.config, order.content.encode() or None)
        worker = Worker(order, config, reactor, reports, ending.begin)
        Threads(reactor).startService()
        worker.privilegedStartService()
        worker.startService()
    except (ConfigError, StartupError) as error:
        print(error, file=sys.stderr)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", worker.stopService)
    orders = CommandReader(worker)
    ProcessReader(reactor, orders, "orders", COMMANDS_FD)
    reactor.callWhenRunning(orders.childDataReceived, "orders", more)
    ending.abort = worker.abort
    reactor.run(installSignalHandlers=False)
    reports.flush()
    return 0


def _hear(ending: Shutdown, reactor: Any) -> None:
    """Give every signal its meaning, and then hear those that have come.

    Twisted would give SIGTERM and SIGINT its own, and a child's end none without them.
    """
    for number in (signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: reactor.callFromThread(reapAllProcesses))
    ending.install_handlers()
    deafness.unblock_signals()


def _line(descriptor: int) -> tuple[bytes, bytes]:
    """The first line, and what has come with it of those that follow."""
    octets = bytearray()
    while b"\n" not in (some := os.read(descriptor, 1 << 16)):
        if not some:
            sys.exit(0)  # the master is gone already
        octets += some
    line, _, more = bytes(octets + some).partition(b"\n")
    return line, more


if __name__ == "__main__":
    sys.exit(main())

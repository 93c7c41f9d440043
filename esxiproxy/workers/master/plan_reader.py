"""Reads the plan of a configuration with the code that is installed now."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from esxiproxy.core.startup import StartupError
from esxiproxy.workers.master.deadline import with_timeout
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.shared.signal_mask import signals_blocked

READ_TIMEOUT = 30.0
"""Seconds within which the plan has to be read."""


class PlanRefused(StartupError):
    """The configuration has problems or cannot be read; ``lines`` describe them."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("the file has problems")
        self.lines = lines


class _PlanProcess(ProcessProtocol):
    """The protocol of the process that prints a plan; a cancellation of ``ended`` kills the process."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self._kill())
        self.out = self.err = b""

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        if not self.ended.called:
            self.ended.callback(None)

    def _kill(self) -> None:
        process: Any = self.transport
        with suppress(ProcessExitedAlready):
            process.signalProcess("KILL")


async def read_plan(path: Path, reactor: IProcessReactor) -> Plan:
    """Return the plan of a configuration file.  Raises PlanRefused."""
    process = _PlanProcess()
    command = [sys.executable, "-P", "-m", "esxiproxy.workers.plan", str(path)]
    try:
        with signals_blocked():  # the process is short and never unblocks them; a cancellation kills it
            reactor.spawnProcess(process, command[0], command, dict(os.environ))
    except OSError as error:
        raise PlanRefused([f"{path} cannot be read: {sys.executable}: {error.strerror}"]) from error
    timeout = PlanRefused([f"{path} could not be read within {READ_TIMEOUT:g} s"])
    await with_timeout(READ_TIMEOUT, process.ended, timeout, reactor)
    try:
        return Plan.read(process.out.decode())
    except ValueError:
        lines = process.err.decode("utf-8", "replace").splitlines()
        raise PlanRefused(lines or [f"{path} cannot be read"]) from None

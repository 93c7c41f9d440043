"""A look at a configuration with the code that is installed now."""

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
from esxiproxy.workers.shared.signal_mask import signals_blocked

READ_TIMEOUT = 30.0
"""Seconds that reading may take."""


class PlanRefused(StartupError):
    """The file has problems, or cannot be read by what is installed; ``lines`` says all of it."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("the file has problems")
        self.lines = lines


class _Reading(ProcessProtocol):
    """Keeps what the process writes, and kills it when it is cancelled."""

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


async def read_plan(path: Path, reactor: Any) -> Plan:
    """The plan of the file.  Raises Refused."""
    reading = _Reading()
    command = [sys.executable, "-P", "-m", "esxiproxy.workers.plan", str(path)]
    try:
        with signals_blocked():  # for good: it is short, and killed when nobody wants it any more
            reactor.spawnProcess(reading, command[0], command, dict(os.environ))
    except OSError as error:
        raise PlanRefused([f"{path} cannot be read: {sys.executable}: {error.strerror}"]) from error
    late = PlanRefused([f"{path} could not be read within {READ_TIMEOUT:g} s"])
    await with_timeout(READ_TIMEOUT, reading.ended, late, reactor)
    try:
        return Plan.read(reading.out.decode())
    except ValueError:
        lines = reading.err.decode("utf-8", "replace").splitlines()
        raise PlanRefused(lines or [f"{path} cannot be read"]) from None

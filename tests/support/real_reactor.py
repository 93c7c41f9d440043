"""A real reactor that a test runs turn by turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor

TURN = 0.01


def turn(core: EPollReactor, seconds: float) -> None:
    """Run one turn, which waits for at most so many seconds."""
    core.runUntilCurrent()
    until = core.timeout()
    core.doIteration(seconds if until is None else min(seconds, until))


def close(core: EPollReactor) -> None:
    """End a reactor with all its connections."""
    core.fireSystemEvent("shutdown")
    for selectable in core.removeAll():
        if hasattr(selectable, "abortConnection"):
            selectable.abortConnection()
    for waker in list(core._internalReaders):
        if hasattr(waker, "i"):  # its pipe is open
            core.removeReader(waker)
            waker.connectionLost(None)
    core._poller.close()


class TurnedReactor:
    """A reactor in the thread of the test; ``deadline`` limits each wait.

    ``turns`` counts the turns.  A turn of a wait takes ``TURN`` seconds at most, if the machine is not busy.
    """

    deadline = 20.0

    def __init__(self) -> None:
        self.core: Any = EPollReactor()
        self.core.startRunning(installSignalHandlers=False)
        self.turns = 0

    def turn(self, seconds: float = 0.0) -> None:
        """Run one turn, which waits for at most so many seconds."""
        self.turns += 1
        turn(self.core, seconds)

    def until(self, true: Callable[[], Any], deadline: float | None = None) -> None:
        """Run turns until a condition is true."""
        end = time.monotonic() + (deadline or self.deadline)
        while not true():
            assert time.monotonic() < end, "it did not happen"
            self.turn(TURN)

    def close(self) -> None:
        """End the reactor with all its connections."""
        close(self.core)

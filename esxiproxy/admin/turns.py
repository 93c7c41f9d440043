"""Lets one piece of work run in each turn of the reactor, so that many do not delay everything else."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime


class Turns:
    """The turns of the reactor, each of which one caller takes."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._is_taken = False
        self._waiting: deque[Deferred[None]] = deque()

    def take(self) -> Deferred[None]:
        """Return a Deferred that fires in a turn of its own, at once if this turn is free."""
        if not self._is_taken:
            self._is_taken = True
            self._clock.callLater(0, self._next)
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _next(self) -> None:
        if not self._waiting:
            self._is_taken = False
            return
        self._clock.callLater(0, self._next)
        self._waiting.popleft().callback(None)

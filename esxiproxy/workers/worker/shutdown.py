"""Stops the reactor of a worker, on a signal or on a command of the master."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Protocol


class StoppableReactor(Protocol):
    """The methods of a reactor that a shutdown needs."""

    def stop(self) -> None:
        """Stop the reactor."""

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None:
        """Call ``callable`` in the next turn of the reactor; safe in a signal handler."""


class Shutdown:
    """The shutdown of a worker process.

    The first signal, or the master's command, stops the reactor.  A second signal aborts.  A command does not
    count as the first of two signals, since a signal to the whole process group arrives at the worker once
    directly and once as a command.
    """

    def __init__(self, reactor: StoppableReactor) -> None:
        self._reactor = reactor
        self._has_begun = self._signalled = False
        self.abort: Callable[[], None] = lambda: None
        """The function that a second signal calls."""

    def begin(self) -> None:
        """Stop the reactor, unless it is being stopped already."""
        if not self._has_begun:
            self._has_begun = True
            self._reactor.stop()

    def install_handlers(self) -> None:
        """Install handlers for SIGTERM and SIGINT, which take effect as soon as the reactor runs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        if self._signalled:
            self.abort()
        self._signalled = True
        self.begin()

"""How a worker comes to its end, whoever asks for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Shutdown:
    """Stops the loop once, for the master's word and for the first signal; the second signal is in a hurry.

    A signal to the whole process group comes to the worker from both sides: the master's word is not counted
    beside it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._has_begun = self._signalled = False
        self.abort: Callable[[], None] = lambda: None
        """Called when the end is to be at once."""

    def begin(self) -> None:
        """Stop, if that has not begun."""
        if not self._has_begun:
            self._has_begun = True
            self._reactor.stop()

    def install_handlers(self) -> None:
        """Obey SIGTERM and SIGINT from now on, as soon as the loop runs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        if self._signalled:
            self.abort()
        self._signalled = True
        self.begin()

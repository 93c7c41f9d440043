"""Daemon threads that make blocking calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.python.failure import Failure


class DaemonThreads:
    """Daemon threads that make calls, from ``start`` to ``stop``; a single one makes them in order.

    They are never joined, so that a locked database or a hanging disk cannot delay the exit of the process.
    The threads of Twisted's thread pool are joined when the pool stops and when the interpreter exits.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name = name
        self._threads = threads
        self._calls: SimpleQueue[Any] = SimpleQueue()

    def start(self) -> None:
        """Start the threads, which begin with the calls that are queued already."""
        for _ in range(self._threads):
            threading.Thread(target=_work, args=(self._calls,), name=self._name, daemon=True).start()

    def stop(self) -> None:
        """Let the threads exit after the calls that are queued now."""
        for _ in range(self._threads):
            self._calls.put(None)
        self._calls = SimpleQueue()

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], call: Callable[..., Any], *args: Any
    ) -> None:
        """Queue a call, as Twisted's ThreadPool does.

        ``done`` is called in the thread, with True and the result or with False and a Failure.
        """
        self._calls.put((done, call, args))


def _work(calls: SimpleQueue[Any]) -> None:
    while (item := calls.get()) is not None:
        done, call, args = item
        try:
            outcome: Any = call(*args)
        except BaseException:
            done(False, Failure())  # type: ignore[no-untyped-call]
        else:
            done(True, outcome)
        item = done = call = args = outcome = None  # keep no references while waiting for the next call

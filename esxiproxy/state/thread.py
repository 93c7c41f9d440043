"""The thread in which a state waits for its database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.python.failure import Failure


class DatabaseThread:
    """Does one call after the other, in their order, from ``start`` to ``stop``.

    Nobody ever waits for it, not even the end of the process: Twisted's thread pool is joined by who stops
    it, and its threads by the interpreter, for as long as a lock is held or a disk does not answer.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Any] = SimpleQueue()

    def start(self) -> None:
        """Begin with what was asked for so far."""
        threading.Thread(target=_work, args=(self._calls,), name=self._name, daemon=True).start()

    def stop(self) -> None:
        """Let it end when it has done what was asked for so far."""
        self._calls.put(None)
        self._calls = SimpleQueue()

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], call: Callable[..., Any], *args: Any
    ) -> None:
        """As in Twisted's thread pool: ``done`` is called there with whether it went well and its outcome."""
        self._calls.put((done, call, args))


def _work(calls: SimpleQueue[Any]) -> None:
    while (asked := calls.get()) is not None:
        done, call, args = asked
        try:
            outcome: Any = call(*args)
        except BaseException:
            done(False, Failure())  # type: ignore[no-untyped-call]
        else:
            done(True, outcome)
        asked = done = call = args = outcome = None  # what it holds is not needed until the next one comes

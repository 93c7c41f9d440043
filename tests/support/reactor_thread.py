"""Services on real sockets in a reactor of their own, which runs in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from tests.support.real_reactor import close, turn

DEADLINE = 20.0
T = TypeVar("T")


class ReactorThread:
    """A reactor in a thread; a subclass starts its services with `start` and stops them with `stop`."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()
        self._is_over = False
        self._up = threading.Event()
        self._problems: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Start the services, in the thread."""
        raise NotImplementedError

    def stop(self) -> Deferred[Any]:
        """Stop the services, in the thread."""
        raise NotImplementedError

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the thread, and return its result."""
        found: list[T] = []
        done = threading.Event()

        def run() -> None:
            try:
                found.append(function())
            finally:
                done.set()

        self.reactor.callFromThread(run)
        assert done.wait(DEADLINE)
        return found[0]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE) and not self._problems, self._problems
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reactor.callFromThread(setattr, self, "_is_over", True)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive() and not self._problems, self._problems

    def _run(self) -> None:
        try:
            self.reactor.startRunning(installSignalHandlers=False)
            self.start()
            self._up.set()
            while not self._is_over:
                turn(self.reactor, 0.05)
            stopped: list[Any] = []
            self.stop().addBoth(stopped.append)
            while not stopped:
                turn(self.reactor, 0.05)
        except BaseException as error:
            self._problems.append(error)
        finally:
            self._up.set()
            close(self.reactor)

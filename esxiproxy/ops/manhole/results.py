"""Results of commands that arrive later, which a shell waits for before it reads its next line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure


class PendingResult:
    """The result of a command that arrives later."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred

    @classmethod
    def of(cls, coroutine: Coroutine[Any, Any, Any]) -> PendingResult:
        """Return the result of a coroutine."""
        return cls(Deferred.fromCoroutine(coroutine))


class PendingResults:
    """The results that a shell waits for, shown in the order of their commands.

    ``show`` gets each result, ``failed`` the failure of a command, and ``resume`` is called when the shell
    waits for nothing any more.
    """

    def __init__(
        self,
        show: Callable[[Any], None],
        failed: Callable[[Failure], None],
        resume: Callable[[], None],
    ) -> None:
        self._show = show
        self._failed = failed
        self._resume = resume
        self._waiting: deque[PendingResult] = deque()
        self._is_closed = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, result: PendingResult) -> None:
        """Wait for a result, after those before it."""
        self._waiting.append(result)
        if len(self._waiting) == 1:
            self._wait()

    def cancel(self) -> None:
        """Cancel the commands whose results are waited for."""
        for result in list(self._waiting):
            result.deferred.cancel()

    def close(self) -> None:
        """Cancel all commands, and show no result any more."""
        self._is_closed = True
        self.cancel()

    def _wait(self) -> None:
        self._waiting[0].deferred.addCallbacks(self._show_result, self._show_failure).addBoth(self._next)

    def _show_result(self, result: Any) -> None:
        if not self._is_closed:
            self._show(result)

    def _show_failure(self, failure: Failure) -> None:
        if not self._is_closed:
            self._failed(failure)

    def _next(self, result: Any) -> None:
        self._waiting.popleft()
        if self._waiting:
            self._wait()
        elif not self._is_closed:
            self._resume()


def is_cancelled(failure: Failure) -> bool:
    """Return whether a command was cancelled by its operator."""
    return failure.check(CancelledError) is not None

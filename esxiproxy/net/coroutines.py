"""Runs coroutines with a callback for their outcome."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Run(Generic[T]):
    """A coroutine that waits for a Deferred.

    It costs less than half of ``Deferred.fromCoroutine``, which copies the context and can be awaited.  As
    there, every exception ends the coroutine, SystemExit and asyncio.CancelledError included: what awaits a
    plugin would wait for ever otherwise.
    """

    __slots__ = ("_done", "_failed", "_steps", "_waiting")

    def __init__(
        self,
        steps: Coroutine[Deferred[Any], Any, T],
        done: Callable[[T], object],
        failed: Callable[[Failure], object],
    ) -> None:
        self._steps = steps
        self._done: Callable[[T], object] | None = done
        self._failed: Callable[[Failure], object] | None = failed
        self._waiting: Deferred[Any] | None = None

    def wait(self, waiting: Deferred[Any]) -> None:
        """Continue the coroutine when this Deferred has fired."""
        self._waiting = waiting
        waiting.addCallbacks(self._fired, self._failed_to_fire)

    def cancel(self) -> None:
        """Cancel what the coroutine waits for.  Do nothing when it has ended."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _fired(self, result: Any) -> None:
        self._step(self._steps.send, result)

    def _failed_to_fire(self, failure: Failure) -> None:
        self._step(self._steps.throw, failure.value)

    def _step(self, go_on: Callable[[Any], Deferred[Any]], outcome: Any) -> None:
        """Give the coroutine the outcome of what it has waited for."""
        self._waiting = None
        try:
            waiting = go_on(outcome)
        except StopIteration as ended:
            self._end(ended.value)
        except BaseException:
            self._fail(Failure())
        else:
            self.wait(waiting)

    def _end(self, result: T) -> None:
        done = self._done
        assert done is not None
        try:
            done(result)
        except BaseException:
            self._fail(Failure())
        self._done = self._failed = None

    def _fail(self, failure: Failure) -> None:
        failed, self._done, self._failed = self._failed, None, None
        if failed is not None:
            failed(failure)


def run(
    steps: Coroutine[Deferred[Any], Any, T],
    done: Callable[[T], object],
    failed: Callable[[Failure], object],
) -> Run[T] | None:
    """Run a coroutine, and call ``done`` with its result or ``failed`` with its failure.

    ``failed`` is called for an exception of ``done`` as well.  Return None if the coroutine has ended, and
    else an object that can cancel it.
    """
    try:
        waiting = steps.send(None)
    except StopIteration as ended:
        try:
            done(ended.value)
        except BaseException:
            failed(Failure())
        return None
    except BaseException:
        failed(Failure())
        return None
    running = Run(steps, done, failed)
    running.wait(waiting)
    return running

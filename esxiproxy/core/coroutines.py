"""Runs coroutines that seldom wait for anything, without a Deferred unless they wait; makes coroutines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def _call(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


class Rest(Generic[T]):
    """The rest of a coroutine that waits for something."""

    __slots__ = ("_steps", "_waiting")

    def __init__(self, steps: Coroutine[Any, Any, T], waiting: Any) -> None:
        self._steps = steps
        self._waiting = waiting

    def steps(self, run: Callable[..., Any] = _call) -> Generator[Any, Any, T]:
        """Continue the coroutine, as ``Deferred.fromCoroutine`` runs it.

        ``run`` is the method of the Context in which the coroutine began, if it began in one.  Without it,
        each step is run in the context of ``Deferred.fromCoroutine``, which is a copy.
        """
        steps, waiting = self._steps, self._waiting
        while True:
            try:
                try:
                    result = yield waiting
                except GeneratorExit:
                    run(steps.close)
                    raise
                except BaseException as error:
                    waiting = run(steps.throw, error)
                else:
                    waiting = run(steps.send, result)
            except StopIteration as done:
                found: T = done.value
                return found


def begin(steps: Coroutine[Any, Any, T]) -> T | Rest[T]:
    """Run a coroutine until it waits for something, and return its result or the rest of it."""
    try:
        waiting = steps.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    return Rest(steps, waiting)


async def awaited(awaitable: Awaitable[T]) -> T:
    """Await any awaitable, for callers that need a coroutine."""
    return await awaitable


async def awaited_call(function: Callable[[], Awaitable[T]]) -> T:
    """Call a function and await its result, so that exceptions of the call are those of the coroutine."""
    return await function()

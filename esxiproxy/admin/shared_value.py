"""A value that is computed once for simultaneous callers, and kept for a moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")
_REST = 9.0


class SharedValue(Generic[T]):
    """A value that ``compute`` returns, at most ``life`` seconds old, computed once for all callers.

    A slow computation is not repeated before it has rested nine times as long as it took.
    An error is given to all callers that wait for the value; the next call computes it again.
    """

    def __init__(self, compute: Callable[[], Awaitable[T]], life: float, clock: IReactorTime) -> None:
        self._compute = compute
        self._life = life
        self._clock = clock
        self._value: T | None = None
        self._computed_at = self._expires = float("-inf")
        self._waiting: list[Deferred[T]] = []
        self._is_computing = False

    @property
    def fresh(self) -> T | None:
        """The value if it is not older than twice its life, else None."""
        age = self._clock.seconds() - self._computed_at
        return self._value if age < 2 * self._life else None

    def forget(self) -> None:
        """Compute the value again for the next caller."""
        self._expires = float("-inf")

    async def get(self) -> T:
        """Return the value.  A caller that is cancelled does not disturb the others."""
        if self._value is not None and self._clock.seconds() < self._expires:
            return self._value
        wanted: Deferred[T] = Deferred(self._forget)
        self._waiting.append(wanted)
        if not self._is_computing:
            self._is_computing = True
            Deferred.fromCoroutine(self._run()).addErrback(self._fail)
        return await wanted

    async def _run(self) -> None:
        began = self._clock.seconds()
        value = await self._compute()
        self._value, self._computed_at = value, self._clock.seconds()
        self._expires = self._computed_at + max(self._life, _REST * (self._computed_at - began))
        for waiter in self._taken():
            if not waiter.called:  # cancelled by one that was served before
                waiter.callback(value)

    def _fail(self, failure: Failure) -> None:
        for waiter in self._taken():
            if not waiter.called:
                waiter.errback(failure)

    def _taken(self) -> list[Deferred[T]]:
        self._is_computing = False
        waiting, self._waiting = self._waiting, []
        return waiting

    def _forget(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

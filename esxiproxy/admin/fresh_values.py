"""Values that are computed anew for each caller, once for all who wait for one at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from esxiproxy.core.coroutines import awaited_call

T = TypeVar("T")
MAX_WAITING = 100
"""Maximum number of callers that wait, fewer than an address has connections."""
REST = 4.0
"""Part of the duration of a computation for which none follows."""
LONGEST_REST = 1.0
"""Maximum number of seconds of this pause, since a computation may have waited for something."""
MAX_AGE = 5.0
"""Seconds since the begin of a computation for which callers that may not wait get its value."""


class TooManyWait(Exception):
    """A call is refused, since as many others wait as may wait, and no value is new enough."""


class FreshValues(Generic[T]):
    """Values by their keys, of which ``compute`` computes one at a time.

    A computation begins after all calls that wait for its value, so that a value is never older than its
    call.  Then a pause of at most ``longest_rest`` seconds follows, so that any number of callers takes only
    a part of the processor.  When too many wait, further callers get the last value of their key, so that a
    client that asks all the time does not keep out the others.
    """

    def __init__(
        self,
        compute: Callable[[str], Awaitable[T]],
        clock: IReactorTime,
        longest_rest: float = LONGEST_REST,
    ) -> None:
        self._compute = compute
        self._clock = clock
        self._longest_rest = longest_rest
        self._count = 0
        """The number of callers that have no value yet."""
        self._waiting: dict[str, list[Deferred[T]]] = {}
        """The callers that wait for each key, the key with the longest wait first."""
        self._is_busy = False
        """Whether a value is computed, or the pause after it has not ended."""
        self._last: dict[str, tuple[float, T]] = {}
        """The last values while callers wait, each with the time at which its computation began."""

    async def get(self, key: str) -> T:
        """Return the value of a key as it is from now on, or its last value if too many wait.

        Raises what the computation raises, or TooManyWait.
        """
        if self._count >= MAX_WAITING:
            began, value = self._last.get(key, (float("-inf"), None))
            if value is None or self._clock.seconds() - began > MAX_AGE:
                raise TooManyWait
            return value
        self._count += 1
        wanted: Deferred[T] = Deferred()
        self._waiting.setdefault(key, []).append(wanted)
        self._begin()
        return await wanted

    def _begin(self) -> None:
        if self._is_busy or not self._waiting:
            return
        self._is_busy = True
        key = next(iter(self._waiting))
        callers, began = self._waiting.pop(key), self._clock.seconds()
        computing = Deferred.fromCoroutine(awaited_call(partial(self._compute, key)))
        computing.addBoth(self._end, key, callers, began)

    def _end(self, outcome: T | Failure, key: str, callers: list[Deferred[T]], began: float) -> None:
        rest = min(self._longest_rest, REST * (self._clock.seconds() - began))
        self._clock.callLater(rest, self._pause_ended)
        if isinstance(outcome, Failure):
            self._last.pop(key, None)
        else:
            self._last[key] = began, outcome
        self._count -= len(callers)
        for caller in callers:
            if not caller.called:  # else it was cancelled
                caller.callback(outcome)

    def _pause_ended(self) -> None:
        self._is_busy = False
        if not self._waiting:
            self._last.clear()
        self._begin()

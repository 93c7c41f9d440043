"""The event loop of a load, with epoll and timers. Nothing is done between two calls of ``run``."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable

MOST_EVENTS = 256
LONGEST = 0.05
"""Seconds that a turn waits at most: so often `done` is asked."""


class Timer:
    """A call that comes later, unless it is cancelled."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Cancel the call."""
        self._call = None

    def fire(self) -> None:
        """Call the function now, unless it was called or cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Loop:
    """An event loop, which calls the owners of ready descriptors and the functions that are due."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[int], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def watch(self, descriptor: int, events: int, ready: Callable[[int], object]) -> None:
        """Call with the events of this descriptor, from now on with these."""
        known = descriptor in self._ready
        self._ready[descriptor] = ready
        (self._epoll.modify if known else self._epoll.register)(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Do not watch it any more; to be said before it is closed."""
        if self._ready.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call once, after so many seconds."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), timer))
        return timer

    def run(self, seconds: float, done: Callable[[], object] = lambda: False) -> bool:
        """Run until the function returns True or the time is over; return whether it did."""
        end = time.monotonic() + seconds
        while not done():
            now = time.monotonic()
            if now >= end:
                return False
            until = min(end, self._timers[0][0]) if self._timers else end
            for descriptor, events in self._epoll.poll(min(max(until - now, 0), LONGEST), MOST_EVENTS):
                if ready := self._ready.get(descriptor):
                    ready(events)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2].fire()
        return True

    def close(self) -> None:
        """Close the epoll set."""
        self._epoll.close()

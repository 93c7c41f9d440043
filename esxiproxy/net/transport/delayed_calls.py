"""Delayed calls that cost little if they are cancelled, as nearly all timeouts are.

Twisted's reactor puts each call that outlives a turn into a heap, and cleans the heap of cancelled calls.  A
proxy has few different timeouts, so the calls of each timeout are in their order already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

MAX_QUEUES = 64
"""Maximum number of different delays that have a queue."""
_MAX_DEAD = 64
"""Cancelled calls that may stay in a queue before it is cleaned."""


@implementer(IDelayedCall)
class QueuedCall:
    """A delayed call that waits in the queue of its delay."""

    __slots__ = ("_arguments", "_call", "_clock_call", "_has_run", "_queue", "time")

    def __init__(
        self, queue: _Queue, time: float, call: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        self._queue = queue
        self.time = time
        self._call: Callable[..., object] | None = call
        self._arguments = arguments
        self._clock_call: IDelayedCall | None = None
        """The clock's own call, after this one was reset."""

    @property
    def is_queued(self) -> bool:
        """Whether the queue is to make this call."""
        return self._call is not None and self._clock_call is None

    def active(self) -> bool:
        return self._call is not None

    def getTime(self) -> float:
        return self.time

    def cancel(self) -> None:
        if self._call is None:
            self._check_active()
        self._call, self._arguments = None, ()
        if self._clock_call is not None:
            clock_call, self._clock_call = self._clock_call, None
            clock_call.cancel()
            return
        queue = self._queue
        calls = queue.calls
        if calls[-1] is self:
            calls.pop()
        else:
            queue.dead += 1
            if queue.dead > _MAX_DEAD:
                queue.clean()

    def reset(self, secondsFromNow: float) -> None:
        self._check_active()
        self._postpone(self._queue.clock.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        self._check_active()
        self._postpone(self.time + secondsLater)

    def run(self) -> None:
        """Make the call."""
        call, self._call = self._call, None
        arguments, self._arguments = self._arguments, ()
        self._clock_call = None
        self._has_run = True
        assert call is not None
        call(*arguments)

    def _postpone(self, time: float) -> None:
        """Make the call at another time, which is out of the order of the queue."""
        clock, before = self._queue.clock, self._clock_call
        self.time = time
        self._clock_call = clock.callLater(max(0.0, time - clock.seconds()), self.run)
        if before is None:
            self._queue.dead += 1
            self._queue.clean()
        else:
            before.cancel()

    def _check_active(self) -> None:
        if self._call is None:
            raise AlreadyCalled if getattr(self, "_has_run", False) else AlreadyCancelled


class _Queue:
    """The calls with one delay, in the order of their times."""

    __slots__ = ("alarm", "calls", "clock", "dead", "latest")

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.calls: deque[QueuedCall] = deque()
        self.dead = 0
        """Number of calls in the queue that were cancelled or reset."""
        self.latest = 0.0
        """The time of the call that was added last."""
        self.alarm: IDelayedCall | None = None
        """Calls ``ring`` at the time of the first call, or earlier if that was cancelled."""

    def clean(self) -> None:
        """Remove dead calls if they are many."""
        if self.dead > _MAX_DEAD and self.dead > len(self.calls) // 2:
            self.calls = deque(call for call in self.calls if call.is_queued)
            self.dead = 0

    def ring(self) -> None:
        """Make the calls whose time has come."""
        self.alarm = None
        now = self.clock.seconds()
        try:
            while self.calls and (not self.calls[0].is_queued or self.calls[0].time <= now):
                call = self.calls.popleft()
                if call.is_queued:
                    call.run()
                else:
                    self.dead -= 1
        finally:  # the clock reports an exception of a call, and the others follow
            if self.calls and self.alarm is None:
                delay = max(0.0, self.calls[0].time - self.clock.seconds())
                self.alarm = self.clock.callLater(delay, self.ring)


class DelayedCalls:
    """The delayed calls of a reactor or another clock: ``call_later`` replaces its ``callLater``.

    The calls with a round delay wait in a queue for that delay, of which only the first is known to the
    clock.  All others are the clock's own.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._queues: dict[float, _Queue] = {}

    def call_later(self, delay: float, call: Callable[..., object], *args: object, **kw: object) -> Any:
        """Schedule a call as the clock's ``callLater`` does."""
        queue = self._queues.get(delay) or self._new_queue(delay)
        time = self._clock.seconds() + delay
        if queue is None or kw or time < queue.latest:  # the clock was set back
            return self._clock.callLater(delay, call, *args, **kw)
        queue.latest = time
        queued = QueuedCall(queue, time, call, args)
        queue.calls.append(queued)
        if queue.alarm is None:
            queue.alarm = self._clock.callLater(delay, queue.ring)
        return queued

    def _new_queue(self, delay: float) -> _Queue | None:
        """Return a new queue for a delay that is likely to be a timeout of the configuration."""
        if len(self._queues) >= MAX_QUEUES or delay < 0.5 or delay * 2 != int(delay * 2):
            return None
        queue = self._queues[delay] = _Queue(self._clock)
        return queue

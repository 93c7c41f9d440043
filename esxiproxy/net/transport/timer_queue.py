"""Timers of the same length in one queue, which cost little to start and to cancel.

Nearly every timer of a session is a deadline that is cancelled.  Twisted compares each of them with others,
and keeps cancelled ones.  Here, timers of one length are in the order of their start, and the reactor has one
call for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

SHORTEST = 0.05
"""Seconds below which a timer is the reactor's own."""
MOST_LENGTHS = 64
"""Maximum number of lengths that have a queue.  Timers of further lengths are the reactor's own."""
_MOST_CANCELLED = 64
"""Cancelled timers that a queue may keep, unless it has more active ones."""

_log = Logger()


@implementer(IDelayedCall)
class QueuedCall:
    """A timer in the queue of its length.  One that is moved to another time becomes the reactor's own."""

    __slots__ = ("_args", "_called", "_kw", "_moved", "_queue", "function", "time")

    def __init__(
        self, queue: TimerQueue, time: float, function: Callable[..., Any], args: Any, kw: Any
    ) -> None:
        self._queue = queue
        self.time = time
        self.function: Callable[..., Any] | None = function
        self._args = args
        self._kw = kw
        self._moved: Any = None
        self._called = False

    def active(self) -> bool:
        return self.function is not None or (self._moved is not None and self._moved.active())

    def cancel(self) -> None:
        if self.function is None:
            self._cancel_moved()
            return
        self.function = self._args = None
        queue = self._queue
        queue.cancelled += 1
        if queue.cancelled > queue.most_cancelled:
            queue.compact()

    def getTime(self) -> float:
        return self.time if self._moved is None else float(self._moved.getTime())

    def reset(self, secondsFromNow: float) -> None:
        self._move().reset(secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        self._move().delay(secondsLater)

    def run(self) -> None:
        """Call the function.  The queue calls this when the time has come."""
        function, args = self.function, self._args
        self.function = self._args = None
        self._called = True
        assert function is not None
        function(*args, **self._kw)

    def _cancel_moved(self) -> None:
        if self._moved is None:
            raise AlreadyCalled if self._called else AlreadyCancelled
        self._moved.cancel()

    def _move(self) -> Any:
        if self._moved is None:
            function, args = self.function, self._args
            self.cancel()
            self._moved = self._queue.reactor_call_at(self.time, function, args, self._kw)
        return self._moved


class TimerQueue:
    """The timers of one length, in the order of their start.

    ``cancelled`` is the number of cancelled timers in the queue, and ``most_cancelled`` the number above
    which they are removed.
    """

    __slots__ = ("_reactor", "cancelled", "length", "most_cancelled", "reactor_call", "waiting")

    def __init__(self, reactor: Any, length: float) -> None:
        self._reactor = reactor
        self.length = length
        self.waiting: deque[QueuedCall] = deque()
        self.cancelled = 0
        self.most_cancelled = _MOST_CANCELLED
        self.reactor_call: Any = None
        """The call of the reactor for the first timer, or None without a timer."""

    def wait(self) -> None:
        """Wait for the end of the first timer, which has just begun."""
        self.reactor_call = self._reactor.callLater(self.length, self._fire)

    def calls(self) -> list[QueuedCall]:
        """Return the active timers."""
        return [call for call in self.waiting if call.function is not None]

    def compact(self) -> None:
        """Remove the cancelled timers.  This takes a time in proportion to the timers that were cancelled."""
        self.waiting = deque(self.calls())
        self.cancelled = 0
        self.most_cancelled = max(_MOST_CANCELLED, len(self.waiting))

    def reactor_call_at(self, time: float, function: Any, args: Any, kw: Any) -> Any:
        """Return a call of the reactor at this time."""
        return self._reactor.callLater(max(0.0, time - self._reactor.seconds()), function, *args, **kw)

    def is_in_order(self, time: float) -> bool:
        """Return whether a timer of this time ends after those of the queue: the clock was not set back."""
        if self.waiting:
            return time >= self.waiting[-1].time
        return self.reactor_call is None or time >= self.reactor_call.getTime()

    def _fire(self) -> None:
        try:
            self._run_until(self._reactor.seconds())
        finally:
            self.reactor_call = None
            if self.waiting:
                rest = self.waiting[0].time - self._reactor.seconds()
                self.reactor_call = self._reactor.callLater(max(0.0, rest), self._fire)

    def _run_until(self, now: float) -> None:
        """Run the timers whose time has come, and remove cancelled ones in front of the others."""
        while self.waiting:
            first = self.waiting[0]
            if first.function is not None and first.time > now:
                return
            self.waiting.popleft()
            if first.function is None:
                self.cancelled -= 1
                continue
            try:
                first.run()
            except BaseException:  # as the reactor does: no timer ends the others
                _log.failure("a timer's function raised an exception")


class TimerQueues:
    """The ``callLater`` of a reactor, with queues for the lengths that occur again and again.

    These are whole milliseconds, as in a configuration.  Other lengths are the rest of a deadline, and no
    second timer has the same.  A timer that would end before the queue does, since the clock was set back, is
    the reactor's own as well.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._queues: dict[float, TimerQueue] = {}

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Call a function after so many seconds, and return an IDelayedCall."""
        queue = self._queues.get(delay)
        if queue is None:
            if delay < SHORTEST or not (delay * 1000.0).is_integer() or len(self._queues) >= MOST_LENGTHS:
                return self._reactor.callLater(delay, callable, *args, **kw)
            queue = self._queues[delay] = TimerQueue(self._reactor, delay)
        time = self._reactor.seconds() + delay
        if not queue.is_in_order(time):
            return self._reactor.callLater(delay, callable, *args, **kw)
        call = QueuedCall(queue, time, callable, args, kw)
        queue.waiting.append(call)
        if queue.reactor_call is None:
            queue.wait()
        return call

    def getDelayedCalls(self) -> list[Any]:
        """Return the active timers, those of the reactor included."""
        queues = self._queues.values()
        fires = [queue.reactor_call for queue in queues]
        queued = [call for queue in queues for call in queue.calls()]
        return queued + [call for call in self._reactor.getDelayedCalls() if call not in fires]

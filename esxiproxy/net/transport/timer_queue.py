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
_COMPACTED = 64
"""Cancelled timers that a queue keeps at least, until they are more than half of it."""

_log = Logger()


@implementer(IDelayedCall)
class QueuedCall:
    """A timer in the queue of its length.  One that is moved to another time becomes the reactor's own."""

    __slots__ = ("_arguments", "_called", "_moved", "_queue", "function", "time")

    def __init__(self, queue: TimerQueue, time: float, function: Callable[..., Any], arguments: Any) -> None:
        self._queue = queue
        self.time = time
        self.function: Callable[..., Any] | None = function
        self._arguments = arguments
        self._moved: Any = None
        self._called = False

    def active(self) -> bool:
        return self.function is not None if self._moved is None else bool(self._moved.active())

    def cancel(self) -> None:
        if self._moved is not None:
            self._moved.cancel()
            return
        self._check_active()
        self.function = self._arguments = None
        self._queue.note_cancelled()

    def getTime(self) -> float:
        return self.time if self._moved is None else float(self._moved.getTime())

    def reset(self, secondsFromNow: float) -> None:
        self._move().reset(secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        self._move().delay(secondsLater)

    def run(self) -> None:
        """Call the function.  The queue calls this when the time has come."""
        function, (args, kw) = self.function, self._arguments
        self.function = self._arguments = None
        self._called = True
        assert function is not None
        function(*args, **kw)

    def _check_active(self) -> None:
        if self.function is None:
            raise AlreadyCalled if self._called else AlreadyCancelled

    def _move(self) -> Any:
        if self._moved is None:
            self._check_active()
            self._moved = self._queue.own_call(self.time, self.function, self._arguments)
            self.function = self._arguments = None
            self._queue.note_cancelled()
        return self._moved


class TimerQueue:
    """The timers of one length, in the order of their start."""

    def __init__(self, reactor: Any, length: float) -> None:
        self._reactor = reactor
        self._length = length
        self._waiting: deque[QueuedCall] = deque()
        self._cancelled = 0
        self.reactor_call: Any = None
        """The call of the reactor for the first timer, or None without a timer."""

    def start(self, function: Callable[..., Any], args: Any, kw: Any) -> QueuedCall:
        """Return a new timer, which begins now."""
        call = QueuedCall(self, self._reactor.seconds() + self._length, function, (args, kw))
        self._waiting.append(call)
        if self.reactor_call is None:
            self.reactor_call = self._reactor.callLater(self._length, self._fire)
        return call

    def calls(self) -> list[QueuedCall]:
        """Return the active timers."""
        return [call for call in self._waiting if call.function is not None]

    def note_cancelled(self) -> None:
        """Remove cancelled timers from the end of the queue, and all of them when they are many."""
        waiting = self._waiting
        self._cancelled += 1
        while waiting and waiting[-1].function is None:
            waiting.pop()
            self._cancelled -= 1
        if self._cancelled > _COMPACTED and self._cancelled * 2 > len(waiting):
            self._waiting = deque(self.calls())
            self._cancelled = 0

    def own_call(self, time: float, function: Any, arguments: Any) -> Any:
        """Return a call of the reactor at this time."""
        args, kw = arguments
        return self._reactor.callLater(max(0.0, time - self._reactor.seconds()), function, *args, **kw)

    def _fire(self) -> None:
        now = self._reactor.seconds()
        while self._waiting:
            first = self._waiting[0]
            if first.function is not None and first.time > now:
                self.reactor_call = self._reactor.callLater(first.time - now, self._fire)
                return
            self._waiting.popleft()
            if first.function is None:
                self._cancelled -= 1
                continue
            try:
                first.run()
            except Exception:
                _log.failure("a timer's function raised an exception")
        self.reactor_call = None


class TimerQueues:
    """The ``callLater`` of a reactor, with queues for the lengths that occur again and again.

    These are whole milliseconds, as in a configuration.  Other lengths are the rest of a deadline, and no
    second timer has the same.
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
        return queue.start(callable, args, kw)

    def getDelayedCalls(self) -> list[Any]:
        """Return the active timers, those of the reactor included."""
        queues = self._queues.values()
        fires = [queue.reactor_call for queue in queues]
        queued = [call for queue in queues for call in queue.calls()]
        return queued + [call for call in self._reactor.getDelayedCalls() if call not in fires]

"""Connects to the first of several addresses whose host can be verified."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from esxiproxy.core.errors import SessionError
from esxiproxy.core.routing import Upstream

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An IP address or a unix socket of a destination, with the settings of a connection to it.

    ``host`` is the IP address or the absolute path.
    ``delay`` is the time in seconds that the candidate before it has alone.
    """

    upstream: Upstream
    host: str
    delay: float = 0.0


Attempt = Callable[[Candidate, Callable[[], bool]], Awaitable[T]]
"""Connects to a candidate.  The second argument is called once the host is verified, before the request is
sent, and returns whether this candidate may have the request."""


class Race(Generic[T]):
    """Attempts to connect to candidates in turn, each beside the ones before after a delay.

    The first whose host is verified wins, and the others are cancelled.  From then on there is no second try,
    since the request may have been sent.  An attempt that fails before is followed by the next one at once.
    """

    def __init__(self, candidates: Sequence[Candidate], attempt: Attempt[T], clock: IReactorTime) -> None:
        self._waiting = deque(candidates)
        self._attempt = attempt
        self._clock = clock
        self._running: dict[Candidate, Deferred[T]] = {}
        self._winner: Candidate | None = None
        self._errors: list[BaseException] = []
        self._timer: IDelayedCall | None = None
        self._result: Deferred[T] = Deferred(self._cancel)

    def start(self) -> Deferred[T]:
        """Return the connection to the winner.

        Fails with the error of the winner, or with that of all candidates if none could be verified.
        """
        result = self._result
        self._next()
        return result

    def _next(self) -> None:
        self._disarm()
        candidate = self._waiting.popleft()
        may_send = partial(self._may_send, candidate)
        running = self._running[candidate] = Deferred.fromCoroutine(_run(self._attempt, candidate, may_send))
        running.addCallbacks(self._opened, self._failed, callbackArgs=(candidate,), errbackArgs=(candidate,))
        if self._waiting and self._winner is None and self._running:
            self._timer = self._timer or self._clock.callLater(self._waiting[0].delay, self._next)

    def _may_send(self, candidate: Candidate) -> bool:
        if self._winner is None and not self._result.called:
            self._winner = candidate
            self._disarm()
            self._waiting.clear()
            self._cancel_all_but(candidate)
        return self._winner is candidate

    def _opened(self, connection: T, candidate: Candidate) -> None:
        self._running.pop(candidate, None)
        self._may_send(candidate)
        if not self._result.called:
            self._result.callback(connection)

    def _failed(self, failure: Failure, candidate: Candidate) -> None:
        self._running.pop(candidate, None)
        if self._result.called or (self._winner is not None and self._winner is not candidate):
            return
        if self._winner is candidate:
            self._result.errback(failure)
            return
        self._errors.append(failure.value)
        if self._waiting:
            self._next()
        elif not self._running:
            self._result.errback(Failure(_of_all(self._errors)))

    def _cancel(self, _result: Deferred[T]) -> None:
        self._disarm()
        self._waiting.clear()
        self._winner = None
        self._cancel_all_but(None)

    def _cancel_all_but(self, kept: Candidate | None) -> None:
        for candidate, running in list(self._running.items()):
            if candidate is not kept:
                running.cancel()

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


async def _run(attempt: Attempt[T], candidate: Candidate, may_send: Callable[[], bool]) -> T:
    return await attempt(candidate, may_send)


def _of_all(errors: Sequence[BaseException]) -> BaseException:
    """Return the error for addresses that have all failed: that of the first, with the texts of all.

    If one of the texts is for the log only, then all of it is.
    """
    sessions = [error for error in errors if isinstance(error, SessionError)]
    if len(errors) == 1 or not sessions:
        return errors[0]
    first = sessions[0]
    details = dict.fromkeys(str(error) for error in sessions)
    detail = f"none of {len(errors)} addresses can be used: {'; '.join(details)}"
    error = type(first)(detail, timeout=first.timeout)
    error.hide_detail = any(error.hide_detail for error in sessions)
    return error

"""Queues of sessions that wait for a slot."""

from __future__ import annotations

from bisect import insort
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.core.session.claim import Claim, SlotClaim

POLL = 0.25
"""Seconds between two attempts of the first waiter of each queue, since other processes release slots too."""

Attempt = Callable[[], Awaitable[Claim | None]]
"""Tries to acquire the claims: returns None, or the claim that could not be acquired."""


@dataclass(order=True, slots=True)
class _Waiter:
    """A place in a queue; waiters are ordered by ``last`` and then by their number."""

    last: bool
    """Whether all waiters without this flag precede this one."""
    number: int
    turn: Deferred[None] | None = field(default=None, compare=False)
    """Fires when the waiter may try to acquire its claims; None during the attempt."""
    again: bool = field(default=False, compare=False)
    """Whether a slot was released during the attempt, whose result may be out of date."""


class SlotQueue:
    """A set of queues, one for each limit that is reached.

    A session waits in the queue of the limit that refused it.  Each queue is first come, first served, except
    that waiters with ``last`` follow all others.  Queues do not affect each other.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._queues: dict[str, list[_Waiter]] = {}
        self._numbers = count()
        self._poll: IDelayedCall | None = None

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @property
    def is_empty(self) -> bool:
        """Whether no session waits."""
        return not self._queues

    async def take(
        self,
        claims: Sequence[Claim],
        seconds: float | None,
        attempt: Attempt,
        last: bool = False,
        refused: Claim | None = None,
    ) -> Claim | None:
        """Acquire the claims by ``attempt``, and wait up to so many seconds for them.

        Return None on success, otherwise the claim that could not be acquired.  If ``seconds`` is None, there
        is one attempt at most, and none if another session waits for one of the claims.  A rate and a mark
        are not waited for.  ``refused`` is the result of an attempt that was made while no session waited.
        """
        full = refused or self._first_queued(claims, last) or await attempt()
        if full is None or seconds is None or not isinstance(full, SlotClaim):
            return full
        waiter, deadline = _Waiter(last, next(self._numbers)), self._clock.seconds() + seconds
        while full is not None:
            if (left := deadline - self._clock.seconds()) <= 0:
                return full
            full = await self._wait(waiter, full, left, claims, attempt)
            if full is not None and not isinstance(full, SlotClaim):
                break
        return full

    async def _wait(
        self, waiter: _Waiter, full: Claim, seconds: float, claims: Sequence[Claim], attempt: Attempt
    ) -> Claim | None:
        """Wait in the queue of one claim for a turn, and return the claim that is refused then, if any."""
        queue = self._queues.setdefault(full.name, [])
        insort(queue, waiter)
        self._arm()
        refused: Claim | None = full
        keeps_place = False
        try:
            if await self._turn(waiter, seconds):
                waiter.again = True
                while waiter.again and refused is not None:
                    waiter.again = False
                    before = self._first_ahead_of_last(claims) if waiter.last else None
                    refused = before or await attempt()
                keeps_place = refused is not None and refused.name == full.name
            return refused
        finally:
            queue.remove(waiter)
            if not queue:
                del self._queues[full.name]
            elif not keeps_place:
                # There may be more than one free slot, or this waiter continues in another queue.  In a later
                # call, because each waiter that succeeds would deepen the stack.
                self._clock.callLater(0, self._call_first, full.name)
            if not self._queues:
                self._cancel_poll()

    async def _turn(self, waiter: _Waiter, seconds: float) -> bool:
        """Wait for the turn of this waiter, and return whether it came within so many seconds."""
        turn: Deferred[None] = Deferred()
        waiter.turn = turn
        expired = False

        def on_timeout(_result: object, _seconds: float) -> None:
            nonlocal expired
            expired = True

        turn.addTimeout(seconds, self._clock, onTimeoutCancel=on_timeout)
        try:
            await turn
        finally:
            waiter.turn = None
        return not expired

    def slot_released(self, names: Iterable[str]) -> None:
        """Give the first waiter of each of these claims its turn."""
        if not self._queues:
            return
        for name in names:
            self._call_first(name)

    def _first_queued(self, claims: Sequence[Claim], last: bool) -> Claim | None:
        """Return the first claim with a waiter that precedes a new one; None if there is none."""
        if not last:
            return self._first_ahead_of_last(claims)
        return next((claim for claim in claims if claim.name in self._queues), None)

    def _first_ahead_of_last(self, claims: Sequence[Claim]) -> Claim | None:
        """Return the first claim with a waiter that has no ``last``; None if there is none."""
        for claim in claims:
            queue = self._queues.get(claim.name)
            if queue and not queue[0].last:
                return claim
        return None

    def _call_first(self, name: str) -> None:
        queue = self._queues.get(name)
        if not queue:
            return
        waiter = queue[0]
        if waiter.turn is not None:
            turn, waiter.turn = waiter.turn, None
            turn.callback(None)
        else:
            waiter.again = True

    def _arm(self) -> None:
        if self._poll is None and self._queues:
            self._poll = self._clock.callLater(POLL, self._retry)

    def _retry(self) -> None:
        self._poll = None
        for name in list(self._queues):
            self._call_first(name)
        self._arm()

    def _cancel_poll(self) -> None:
        """Cancel the timer when no queue is left."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

"""Those who wait for a slot, in the order in which they came."""

from __future__ import annotations

from bisect import insort
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.core.session.claim import Claim, RateClaim

POLL = 0.25
"""Seconds after which the first of each line tries again unasked: other processes give back in silence."""

Try = Callable[[], Awaitable[Claim | None]]


@dataclass(order=True, slots=True)
class _Waiter:
    last: bool
    """Whether all others go first."""
    number: int
    turn: Deferred[None] | None = field(default=None, compare=False)
    """Fires when it may try; None while it tries."""
    again: bool = field(default=False, compare=False)
    """Whether something was given back while it tried: the answer may be an old one."""


class SlotQueue:
    """One line for each limit that is full.

    Who claims under several limits stands in the line of the one that refused it.  Nobody who comes later
    tries before it under that limit; under others everybody goes on.  Those who are to be the last stand
    behind all others.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._queues: dict[str, list[_Waiter]] = {}
        self._numbers = count()
        self._poll: IDelayedCall | None = None

    def __len__(self) -> int:
        return sum(len(line) for line in self._queues.values())

    async def take(
        self, claims: Sequence[Claim], seconds: float | None, attempt: Try, last: bool = False
    ) -> Claim | None:
        """None when the attempt took what is claimed, the claim that refused it when the time is up.

        Without ``seconds`` there is one attempt, and whoever waits already goes first.
        """
        full = self._first_queued(claims, last) or await attempt()
        if full is None or seconds is None or isinstance(full, RateClaim):  # a flood does not get a queue
            return full
        waiter, deadline = _Waiter(last, next(self._numbers)), self._clock.seconds() + seconds
        while full is not None:
            if (left := deadline - self._clock.seconds()) <= 0:
                return full
            full = await self._wait(waiter, full, left, claims, attempt)
            if isinstance(full, RateClaim):
                break
        return full

    async def _wait(
        self, waiter: _Waiter, full: Claim, seconds: float, claims: Sequence[Claim], attempt: Try
    ) -> Claim | None:
        """Stand in one line until its first answer: what refuses then, in this line or another."""
        line = self._queues.setdefault(full.name, [])
        insort(line, waiter)
        self._arm()
        refused: Claim | None = full
        stays = False
        try:
            if await self._turn(waiter, seconds):
                waiter.again = True
                while waiter.again and refused is not None:
                    waiter.again = False
                    before = self._before_the_last(claims) if waiter.last else None
                    refused = before or await attempt()
                stays = refused is not None and refused.name == full.name
            return refused
        finally:
            line.remove(waiter)
            if not line:
                del self._queues[full.name]
            elif not stays:
                # There may be more than one slot, or it is another limit that this one waits for now.  Not in
                # this stack: it would grow with everybody who gets one.
                self._clock.callLater(0, self._call_first, full.name)
            if not self._queues:
                self._cancel_poll()

    async def _turn(self, waiter: _Waiter, seconds: float) -> bool:
        """Whether it may try, within that time."""
        turn: Deferred[None] = Deferred()
        waiter.turn = turn
        late = False

        def expired(_result: object, _seconds: float) -> None:
            nonlocal late
            late = True

        turn.addTimeout(seconds, self._clock, onTimeoutCancel=expired)
        try:
            await turn
        finally:
            waiter.turn = None
        return not late

    def slot_released(self, names: Iterable[str]) -> None:
        """Under these names there is a slot."""
        for name in names:
            self._call_first(name)

    def _first_queued(self, claims: Sequence[Claim], last: bool) -> Claim | None:
        """Return the claim under which somebody waits who goes first."""
        if not last:
            return self._before_the_last(claims)
        return next((claim for claim in claims if claim.name in self._queues), None)

    def _before_the_last(self, claims: Sequence[Claim]) -> Claim | None:
        """Return the claim under which somebody waits who is not to be the last."""
        for claim in claims:
            line = self._queues.get(claim.name)
            if line and not line[0].last:
                return claim
        return None

    def _call_first(self, name: str) -> None:
        line = self._queues.get(name)
        if not line:
            return
        waiter = line[0]
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
        """Nobody waits, and nobody has to be looked after."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

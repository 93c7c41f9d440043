"""A number of consoles, each replaced when it ends, and a steady stream of short sessions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from bench.soak.console import CLOSING, Console, Door
from bench.soak.ending import Ending
from bench.soak.loop import Loop
from bench.soak.tally import Fault, Tally
from bench.soak.upstream import Upstream

MOST_FAILURES = 1000
"""After so many nothing new is begun."""
LATE = 0.25
"""Seconds of delay that new ones make up for; more would be a burst where a steady stream is wanted."""
MOST_VISITORS = 100
"""At a time; as long as so many are there, none begins."""
VISIT = 2
"""Messages of a short session."""


class Load:
    """Consoles through these doors; `consoles` are those that stay, `visitors` the short ones, by number."""

    def __init__(
        self, loop: Loop, tally: Tally, upstream: Upstream, doors: Sequence[Door], pace: float
    ) -> None:
        """Create a load whose consoles ask once in `pace` seconds."""
        self.loop, self.tally, self.upstream, self.doors = loop, tally, upstream, list(doors)
        self.consoles: dict[int, Console] = {}
        self.visitors: dict[int, Console] = {}
        self.ended = dict.fromkeys(("client", "upstream"), 0)
        """Consoles whose time had come, by who ended them."""
        self.shown: dict[bytes, float] = {}
        """Certificates, with the last time at which a client that was shown this one began to connect."""
        self._pace = pace
        self._rng = random.Random(1)
        self._number = 0
        self._wanted = 0
        self._lifetime: float | None = None
        self._streams = 0
        """Which of the streams of new sessions are the present ones."""

    def go(self, consoles: int, rate: float, visits: float = 0.0, lifetime: float | None = None) -> None:
        """Keep up so many consoles, with `rate` new ones a second at most, and so many visits a second.

        With a `lifetime` a console ends after so many seconds in the mean: a third by the book, the
        rest in the other ways, a part of them from the upstream's side.
        """
        self._wanted, self._lifetime = consoles, lifetime
        self._streams += 1
        self._steadily(rate, self._keep_up)
        if visits:
            self._steadily(visits, self._visit)

    def finish(self, seconds: float = 40.0) -> bool:
        """Begin no further session and end all in order; return whether none is left."""
        self._streams += 1
        for console in list(self.consoles.values()):
            self._leave(console, Ending.CLEAN)
        return self.loop.run(seconds, lambda: not (self.consoles or self.visitors or self.upstream.sessions))

    def is_full(self) -> bool:
        """Return whether all consoles are open, or too many failed."""
        if len(self.tally.failures) > MOST_FAILURES:
            return True
        return len(self.consoles) >= self._wanted and all(each.is_open for each in self.consoles.values())

    # new ones

    def _steadily(self, rate: float, begin: Callable[[], object]) -> None:
        which, due = self._streams, time.monotonic()

        def again() -> None:
            nonlocal due
            if which == self._streams and len(self.tally.failures) <= MOST_FAILURES:
                begin()
                due = max(due + 1 / rate, time.monotonic() - LATE)
                self.loop.later(due - time.monotonic(), again)

        again()

    def _keep_up(self) -> None:
        if len(self.consoles) < self._wanted:
            console = self._console(self._over)
            self.consoles[console.number] = console
            if self._lifetime:
                seconds = self._rng.expovariate(1 / self._lifetime)
                self.loop.later(1 + seconds, lambda: self._end(console))

    def _visit(self) -> None:
        if len(self.visitors) >= MOST_VISITORS:
            return
        ending = self._rng.choice((Ending.CLEAN, Ending.CLEAN, *Ending))
        console = self._console(self._over, VISIT, ending, pace=0.01)
        self.visitors[console.number] = console

    def _console(
        self,
        over: Callable[[Console], object],
        asks: int | None = None,
        ending: Ending = Ending.CLEAN,
        pace: float | None = None,
    ) -> Console:
        self._number += 1
        door = self.doors[self._number % len(self.doors)]
        return Console(self.loop, self.tally, self._number, door, pace or self._pace, over, asks, ending)

    # the ends

    def _end(self, console: Console) -> None:
        """End a session whose time is over."""
        if console.is_over or console.leaves:
            return
        if not console.is_open:
            self.loop.later(1, lambda: self._end(console))
            return
        if self._rng.random() < 0.3 and (session := self.upstream.sessions.get(console.number)):
            ending = self._rng.choice(list(Ending))
            self.ended["upstream"] += 1
            console.expect(ending)
            session.leave(ending)
        else:
            self._leave(console, self._rng.choice((Ending.CLEAN, *Ending)))

    def _leave(self, console: Console, ending: Ending) -> None:
        if not (console.leaves or console.expected or console.is_over):
            self.ended["client"] += 1
            console.leave(ending)

    def _over(self, console: Console) -> None:
        if console.certificate:
            last = self.shown.get(console.certificate, 0.0)
            self.shown[console.certificate] = max(last, console.begun)
        self.consoles.pop(console.number, None)
        self.visitors.pop(console.number, None)
        if console.number in self.upstream.sessions:
            self.loop.later(CLOSING, lambda: self._gone(console))

    def _gone(self, console: Console) -> None:
        """Check that the session's other end has ended."""
        if console.number in self.upstream.sessions:
            text = f"the upstream's side is there {CLOSING:g} s after the client's"
            self.tally.fail(Fault.LINGERS, console.number, console.begun, text)

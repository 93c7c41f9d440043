"""The clock of a process's timers."""

from __future__ import annotations

import time
from typing import Any


def make_monotonic(reactor: Any) -> None:
    """Have a Twisted reactor of our own process measure durations on a clock that nobody sets.

    Twisted's timers run on the time of day.  When that is set back, all of them stop for as long: systemd's
    watchdog, pings and deadlines.  When it is set forward, they all end at once.  Nobody may read the time of
    day from this reactor any more.  Calls that are armed already keep the time that they have left.
    """
    calls, before = reactor.getDelayedCalls(), reactor.seconds()
    reactor.seconds = time.monotonic
    for call in calls:
        left = call.getTime() - before
        call.seconds = time.monotonic
        call.reset(max(0.0, left))

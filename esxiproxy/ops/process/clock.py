"""Makes the timers of a process independent of changes of the system time."""

from __future__ import annotations

import time
from typing import Any


def make_monotonic(reactor: Any) -> None:
    """Make a Twisted reactor use the monotonic clock, in a process that belongs to the proxy alone.

    Twisted's timers use the system time.  When it is set back, no timer fires for that long: neither
    systemd's watchdog nor pings nor timeouts.  When it is set forward, all timers fire at once.  After this
    call ``reactor.seconds()`` is not the time of day.  Pending calls keep their remaining time.
    """
    calls, before = reactor.getDelayedCalls(), reactor.seconds()
    reactor.seconds = time.monotonic
    for call in calls:
        left = call.getTime() - before
        call.seconds = time.monotonic
        call.reset(max(0.0, left))

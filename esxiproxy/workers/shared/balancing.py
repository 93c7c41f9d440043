"""Which worker takes the next connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STALE = 1.0
"""Seconds after which a worker that gave no sign of life is not waited for."""
SLACK = 0.04
"""What a worker may hold beyond the mean, as a part of it: less, and they would take turns all the time."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What one worker says of itself: the connections that it holds, and when it last said so.

    ``seen`` is in seconds of a clock that all of them share, negative when the worker takes no connections,
    and 0 when it is not there.
    """

    connections: int
    heartbeat_at: float


def may_accept(number: int, shares: Sequence[WorkerLoad], now: float) -> bool:
    """Whether this worker holds no more than its share of what all hold.

    Consoles last for hours, so whoever happens to wake first may not take them all.  Of those that are alive
    the one with the fewest always may: there is always somebody who accepts.
    """
    live = [
        share.connections
        for index, share in enumerate(shares)
        if index == number or (share.heartbeat_at > 0 and now - share.heartbeat_at <= STALE)
    ]
    mean = sum(live) / len(live)
    return shares[number].connections < mean + max(1.0, mean * SLACK)

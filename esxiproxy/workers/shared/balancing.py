"""Balances connections over the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STALE = 1.0
"""Seconds after its last heartbeat when a worker is ignored in the balance."""
SLACK = 0.04
"""The fraction by which a worker may exceed the mean; with a smaller one the gates would change too often."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """The load of one worker: its open connections, and the time of its last heartbeat.

    ``heartbeat_at`` is in seconds of the monotonic clock.  It is negative when the worker accepts no
    connections, and 0 when there is no such worker.
    """

    connections: int
    heartbeat_at: float


def may_accept(number: int, loads: Sequence[WorkerLoad], now: float) -> bool:
    """Return whether a worker has no more than its share of all connections.

    Consoles last for hours, so the worker that wakes first must not accept all of them.  The live worker with
    the fewest connections always may accept, so at least one worker accepts at any time.  ``number`` is the
    index of the worker in ``loads``; ``now`` is in seconds of the monotonic clock.
    """
    live = [
        load.connections
        for index, load in enumerate(loads)
        if index == number or (load.heartbeat_at > 0 and now - load.heartbeat_at <= STALE)
    ]
    mean = sum(live) / len(live)
    return loads[number].connections < mean + max(1.0, mean * SLACK)

"""Whether workers give signs of life: one that is stuck holds its consoles, and serves none of them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

CHECK_INTERVAL = 5.0
"""Seconds between two looks."""
HEARTBEAT_TIMEOUT = 12
"""Looks in a row without a sign, after which a worker is given up: no browser waits for longer than that."""


class WorkerHealth(Enum):
    """What is new about a worker."""

    SILENT = "gives no sign of life"
    BACK = "is back"
    LOST = "is given up"


class Watchdog:
    """Compares what it sees with what it saw.

    It counts looks and not seconds: when the whole machine stood still, everybody has had none of them.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, int]] = {}

    def check(self, signs: Mapping[int, float]) -> Mapping[int, WorkerHealth]:
        """What is new about the workers, given when each of them was last alive."""
        verdicts: dict[int, WorkerHealth] = {}
        before, self._seen = self._seen, {}
        for number, sign in signs.items():
            last, missed = before.get(number, (0.0, 0))
            now = missed + 1 if sign == last else 0
            self._seen[number] = (sign, now)
            if now == 1:
                verdicts[number] = WorkerHealth.SILENT
            elif now == HEARTBEAT_TIMEOUT:
                verdicts[number] = WorkerHealth.LOST
            elif missed and not now:
                verdicts[number] = WorkerHealth.BACK
        return verdicts

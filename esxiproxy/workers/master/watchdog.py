"""Detects workers whose event loop hangs: such a worker keeps its consoles open and serves none of them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

CHECK_INTERVAL = 5.0
"""Seconds between two checks of the heartbeats."""
HEARTBEAT_TIMEOUT = 12
"""Consecutive checks without a heartbeat after which a worker is killed, a minute in all."""


class WorkerHealth(Enum):
    """A change in the health of a worker, as the text of a log message."""

    SILENT = "sends no heartbeat"
    BACK = "sends heartbeats again"
    LOST = "sent no heartbeat for a minute and is killed"


class Watchdog:
    """A comparison of the heartbeats of all workers with those at the previous check.

    It counts checks and not seconds, so a suspended machine makes no worker fail.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, int]] = {}

    def check(self, heartbeats: Mapping[int, float]) -> Mapping[int, WorkerHealth]:
        """Return the changes by worker number, given the time of the last heartbeat of each worker."""
        changes: dict[int, WorkerHealth] = {}
        before, self._seen = self._seen, {}
        for number, heartbeat in heartbeats.items():
            last, missed_before = before.get(number, (0.0, 0))
            missed = missed_before + 1 if heartbeat == last else 0
            self._seen[number] = (heartbeat, missed)
            if missed == 1:
                changes[number] = WorkerHealth.SILENT
            elif missed == HEARTBEAT_TIMEOUT:
                changes[number] = WorkerHealth.LOST
            elif missed_before and not missed:
                changes[number] = WorkerHealth.BACK
        return changes

"""The clocks that the processes of one machine have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Times:
    """What a state in a file measures with.

    ``lasting`` counts from the machine's start, a suspend included, and nobody sets it: leases run on it.
    ``boot`` names that start, for the numbers of another one mean nothing.  ``day`` is the time of day: what
    has to outlast a restart of the machine is kept by it.
    """

    boot: str
    since_boot: Callable[[], float]
    wall_clock: Callable[[], float] = time.time

    @classmethod
    def of_this_machine(cls) -> Times:
        """Return the kernel's clocks; without Linux the closest that there is."""
        try:
            boot = _BOOT_ID.read_text("ascii").strip()
        except (OSError, ValueError):
            boot = ""
        return cls(boot, _lasting if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic)


def _lasting() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)

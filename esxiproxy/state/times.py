"""The clocks that all processes of one machine share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Times:
    """The clocks that a shared state measures with, in seconds.

    ``since_boot`` counts from the boot of the machine, includes suspends and cannot be set: leases use it.
    ``boot`` identifies the boot, since values of another boot cannot be compared.  ``wall_clock`` is the time
    of day, for what has to survive a reboot.
    """

    boot: str
    since_boot: Callable[[], float]
    wall_clock: Callable[[], float] = time.time

    @classmethod
    def of_this_machine(cls) -> Times:
        """Return the kernel's clocks, or on systems other than Linux the closest equivalents."""
        try:
            boot = _BOOT_ID.read_text("ascii").strip()
        except (OSError, ValueError):
            boot = ""
        return cls(boot, _seconds_since_boot if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic)


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)

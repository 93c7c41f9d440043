"""Who runs on which core: the proxies on the first, the load and the upstream on the second."""

from __future__ import annotations

import os
import resource

CORES = sorted(os.sched_getaffinity(0))
PROXY, LOAD = CORES[0], CORES[-1 if len(CORES) < 2 else 1]


def pinned(core: int) -> tuple[str, ...]:
    """What stands before a command to keep it, and all that it starts, on this core."""
    return ("taskset", "-c", str(core))


def raise_descriptors() -> None:
    """As many descriptors as we may have, for us and for what we start."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> int:
    """How many that are."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16)

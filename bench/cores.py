"""The CPU cores of the processes: proxies on the first, load and upstream on the second."""

from __future__ import annotations

import os
import resource

CORES = sorted(os.sched_getaffinity(0))
PROXY, LOAD = CORES[0], CORES[-1 if len(CORES) < 2 else 1]


def pinned(core: int) -> tuple[str, ...]:
    """Return the command prefix that pins a command and its children to a core."""
    return ("taskset", "-c", str(core))


def raise_descriptors() -> None:
    """Raise the limit on descriptors to its maximum, for this process and its children."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> int:
    """Return the limit on descriptors."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16)

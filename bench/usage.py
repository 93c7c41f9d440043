"""The memory and CPU time of a program's processes, read from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


def tree(roots: Iterable[int]) -> set[int]:
    """Return these processes and all of their descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, left = set(), list(roots)
    while left:
        pid = left.pop()
        found.add(pid)
        left += children.get(pid, [])
    return found


def memory(roots: Iterable[int]) -> int:
    """Return the memory of a process tree in bytes, as its proportional set size."""
    total = 0
    for pid in tree(roots):
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


@dataclass(frozen=True, slots=True)
class Times:
    """The CPU seconds of a process tree, and the seconds that it waited for a core."""

    had: float
    waited: float
    at: float

    def share_since(self, before: Times) -> tuple[float, float]:
        """Return the CPU use per second since ``before``, without and with the time of waiting for a core."""
        elapsed = self.at - before.at
        had = self.had - before.had
        return had / elapsed, (had + self.waited - before.waited) / elapsed


def times(roots: Iterable[int]) -> Times:
    """Return the times of a process tree by the scheduler's clock, ended children by their ticks."""
    had = waited = 0.0
    for pid in tree(roots):
        try:
            for task in (PROC / str(pid) / "task").iterdir():
                fields = (task / "schedstat").read_text().split()
                had += int(fields[0]) / 1e9
                waited += int(fields[1]) / 1e9
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        had += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return Times(had, waited, time.perf_counter())

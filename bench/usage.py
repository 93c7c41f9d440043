"""What the processes of a program use: memory and CPU time, read from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all that descend from them."""
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
    """Bytes of the tree: proportional set size, so that what is shared counts once."""
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
    """Seconds of CPU that a tree of processes has had, and seconds that it stood in line for a core."""

    had: float
    waited: float
    at: float

    def share_since(self, before: Times) -> tuple[float, float]:
        """Of each second since then: the CPU that it had, and what it would have had on an idle machine."""
        elapsed = self.at - before.at
        had = self.had - before.had
        return had / elapsed, (had + self.waited - before.waited) / elapsed


def times(roots: Iterable[int]) -> Times:
    """By the scheduler's clock; children that have ended count with the ticks that they left behind."""
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

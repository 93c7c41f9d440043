"""The number of CPUs that this process may use, by its affinity and the quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1, _V2 = "cgroup", "cgroup2"


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    A quota of half a CPU counts as one.  ``root`` is the folder of ``proc`` and ``sys``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quota of each control group that this process is in, in whole CPUs, rounded up."""
    for folder in _groups(root):
        words = _words(folder / "cpu.max")
        if len(words) != 2:
            words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isascii() and word.isdigit() for word in words):  # no "max", no -1
            quota, period = map(int, words)
            if quota and period:
                yield -(-quota // period)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of all groups above them."""
    own = _own_paths(root)
    for line in _lines(root / "proc/self/mountinfo"):
        # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        mount, _, filesystem = line.partition(" - ")
        fields, (kind, *rest) = mount.split(), filesystem.split() or [""]
        if kind not in (_V1, _V2) or len(fields) < 5 or kind not in own:
            continue
        if kind == _V1 and not (rest and "cpu" in rest[-1].split(",")):
            continue
        top, place = PurePosixPath(_plain(fields[3])), root / _plain(fields[4]).lstrip("/")
        path = own[kind]
        # In a container without its own namespace the path and the mount's root are those of the host.
        below = path.relative_to(top) if path.is_relative_to(top) and ".." not in path.parts else None
        folder = place if below is None else place / below
        yield folder
        while folder != place:
            folder = folder.parent
            yield folder


def _own_paths(root: Path) -> dict[str, PurePosixPath]:
    """Return this process's path in each version's hierarchy for the CPU."""
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):  # 4:cpu,cpuacct:/docker/1234, or 0::/user.slice
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[_V2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            paths[_V1] = PurePosixPath(path)
    return paths


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _plain(field: str) -> str:
    """Return a field of mountinfo without its octal escapes (proc(5))."""
    for code in (0o40, 0o11, 0o12, 0o134):
        field = field.replace(f"\\{code:03o}", chr(code))
    return field

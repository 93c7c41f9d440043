"""Merges the metrics of processes that have ended, so that their files do not pile up."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from esxiproxy.ops.metrics.files import MERGED, Index, lock_file, lock_path, owner_of
from esxiproxy.ops.metrics.mapped_file import ReservedFile
from esxiproxy.ops.metrics.metrics import CLOSED, OPENED, PREFIX, WORKER_LOST

MAX_AT_ONCE = 100
"""Maximum number of processes that are merged in one step.  Each of them needs a file descriptor."""
_LOCK = "merge.lock"
_OPENED = PREFIX + OPENED.name
_CLOSED = PREFIX + CLOSED.name

Values = dict[str, tuple[float, float]]
"""Values of one file with their timestamps, by their keys."""


def merge_dead(folder: Path) -> int:
    """Merge the files of processes that have ended into one set of files; return their number.

    Counters and histograms are summed up.  A gauge of a process that has ended is dropped.  Consoles that
    were open in it are counted as ended, with the reason ``WorkerLost``.

    One process at a time does this; the others return 0.  If it is interrupted at any point, the next call
    continues, and each value is counted once.  Raises OSError.
    """
    with ExitStack() as stack:
        if not _hold(stack, folder / _LOCK, create=True):
            return 0
        _remove_leftovers(folder, Index.of(folder))
        locks = sorted(folder.glob(lock_path(folder, "*").name))
        return sum(
            _merge_some(folder, locks[first : first + MAX_AT_ONCE])
            for first in range(0, len(locks), MAX_AT_ONCE)
        )


def _merge_some(folder: Path, locks: list[Path]) -> int:
    """Merge the files of the processes with these locks that have ended; return their number."""
    with ExitStack() as stack:
        # Their locks are kept, so that no process that is just starting is among them.
        dead = frozenset(owner_of(path) for path in locks if _hold(stack, path))
        if not dead:
            return 0
        index = Index.of(folder)
        sources = [path for path in index.files(folder) if owner_of(path) in dead or _is_merged(path)]
        merged = Index(index.number + 1, dead)
        for prefix, values in _sums(sources).items():
            _write(folder / f"{prefix}_{MERGED}{merged.number}.db", values)
        merged.write(folder)  # from here on the files of these processes do not count
        _remove_leftovers(folder, merged)
        return len(dead)


def _hold(stack: ExitStack, path: Path, create: bool = False) -> bool:
    """Return whether a file could be locked, which is then locked until the stack is closed."""
    descriptor = lock_file(path, wait=False, create=create)
    if descriptor is not None:
        stack.callback(os.close, descriptor)
    return descriptor is not None


def _remove_leftovers(folder: Path, index: Index) -> None:
    """Remove files that are contained in merged files, and merged files that are not valid.

    The lock of a process is removed last, since it names the process.
    """
    for path in sorted(folder.glob("*.db")):
        owner = owner_of(path)
        if owner in index.contained or (_is_merged(path) and owner != f"{MERGED}{index.number}"):
            path.unlink()
    for owner in sorted(index.contained):
        lock_path(folder, owner).unlink(missing_ok=True)


def _is_merged(path: Path) -> bool:
    return owner_of(path).startswith(MERGED)


def _sums(sources: list[Path]) -> dict[str, Values]:
    """Return the values of the merged files that replace the sources, by the beginning of a file's name."""
    sums: dict[str, Values] = defaultdict(dict)
    lost: dict[str, float] = defaultdict(float)
    for path in sources:
        prefix = path.stem.rpartition("_")[0]
        if prefix.startswith("gauge_live") or prefix == "gauge_all":
            continue
        merged = sums[prefix]
        for key, value, stamp, _ in MmapedDict.read_all_values_from_file(str(path)):
            merged[key] = _merge(prefix, merged.get(key), (value, stamp))
            if prefix == "counter" and not _is_merged(path):
                _count_lost(lost, key, value)
    counters = sums["counter"]
    for key, number in lost.items():
        if number > 0:
            counters[key] = _merge("counter", counters.get(key), (number, 0.0))
    return sums


def _merge(
    prefix: str, before: tuple[float, float] | None, value: tuple[float, float]
) -> tuple[float, float]:
    """Return the value for two processes.  Gauges are those of plugins; the proxy has live gauges only."""
    if before is None:
        return value
    match prefix:
        case "gauge_max":
            return max(before, value)
        case "gauge_min":
            return min(before, value)
        case "gauge_mostrecent":
            return max(before, value, key=lambda each: each[1])
    return before[0] + value[0], 0.0


def _count_lost(lost: dict[str, float], key: str, value: float) -> None:
    """Add a counter of an ended process to the numbers of consoles that were open at its end.

    ``lost`` has them by the key under which they are counted as ended.  They are taken from the counters,
    since a process may crash between two counts.
    """
    _, name, labels, _ = json.loads(key)
    if name in (_OPENED, _CLOSED):
        values = [labels["listener"], labels["upstream"], WORKER_LOST]
        ended = mmap_key(_CLOSED.removesuffix("_total"), _CLOSED, list(CLOSED.labels), values, CLOSED.help)
        lost[ended] += value if name == _OPENED else -value


def _write(path: Path, values: Values) -> None:
    file = ReservedFile(str(path))
    for key, (value, stamp) in values.items():
        file.write_value(key, value, stamp)
    file.close()

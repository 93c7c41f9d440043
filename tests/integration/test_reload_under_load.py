"""Reloads and a killed worker under open and new consoles, with every byte checked.

`ESXIPROXY_LONG=1` makes 20 reloads and at least 20,000 connects instead of 6 and 900.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.soak.proxied import Stage, staged
from bench.soak.tally import Fault
from bench.usage import tree

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
RELOADS = 20 if LONG else 6
CONNECTS = 20_000 if LONG else 900
CONSOLES = 200
RATE = 50.0
"""New consoles a second, until all are there."""
VISITS = 50.0
"""New sessions a second: what both cores of a small machine take with ease, their TLS included."""
PACE = 2.0
BROKEN, SWAPPED = 1, 3
"""Of the reloads: the one that finds a broken file, the one that finds another certificate."""
DEADLINE = 60.0
PINGS = "ping_interval = 2s"

each_number_of_workers = pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])


def filled(stage: Stage, visits: float) -> None:
    """Start the load, and wait until all consoles are open."""
    load = stage.load
    load.go(CONSOLES, RATE, visits)
    assert load.loop.run(DEADLINE, load.is_full) and not load.tally.failures, load.tally.report()


def says(stage: Stage, text: str) -> Callable[[], bool]:
    """Return a function that returns whether the log has this text since now."""
    path = stage.proxy.folder / "output.log"
    mark = path.stat().st_size

    def ask() -> bool:
        with path.open("rb") as log:
            log.seek(mark)
            return text.encode() in log.read()

    return ask


def reload(stage: Stage, text: str) -> None:
    """Send SIGHUP under load, and wait for this text in the log."""
    said = says(stage, text)
    os.kill(stage.proxy.pid, signal.SIGHUP)
    assert stage.load.loop.run(DEADLINE, said), f"{text!r} is not in the log:\n{stage.proxy.log()[-3000:]}"


def begun(stage: Stage, count: int) -> bool:
    """Continue until there were so many connects, and return whether all of them have succeeded."""
    tally = stage.load.tally
    return (
        stage.load.loop.run(10 * DEADLINE, lambda: tally.begun >= count or tally.failures)
        and not tally.failures
    )


@each_number_of_workers
def test_a_reload_loses_no_console_no_byte_and_no_connect(workers: int, tmp_path: Path) -> None:
    """A reload with a broken file loses nothing either.

    After a reload with a new certificate no client gets the old one.
    """
    with staged(tmp_path, PACE, PINGS, workers) as stage:
        load, tally, good = stage.load, stage.load.tally, stage.proxy.path.read_text()
        filled(stage, VISITS)
        consoles = set(load.consoles)
        other, swapped_at = stage.authority.server("other"), 0.0
        for number in range(RELOADS):
            assert begun(stage, tally.begun + (CONNECTS - CONSOLES) // (RELOADS + 1)), tally.report()
            if number == BROKEN:
                stage.proxy.path.write_text(f"{good}\n[listener broken]\nlisten = nowhere\n")
                reload(stage, "everything stays as it was")
                stage.proxy.path.write_text(good)
                continue
            if number == SWAPPED:
                shutil.copy(other.path, stage.own.path)
                shutil.copy(other.key_path, stage.own.key_path)
            reload(stage, "is in force")
            if number == SWAPPED:
                swapped_at = time.monotonic()
        assert begun(stage, CONNECTS), tally.report()
        assert set(load.consoles) == consoles, tally.report()
        answered = {console.number: console.answered for console in load.consoles.values()}
        assert load.loop.run(
            DEADLINE,
            lambda: all(load.consoles[number].answered > count for number, count in answered.items()),
        ), tally.report()
        assert load.finish(), tally.report()
        assert not tally.failures, tally.report()
        assert tally.begun >= CONNECTS and tally.opened == tally.begun
        assert set(load.shown) == {stage.own.der, other.der}
        assert load.shown[stage.own.der] < swapped_at < load.shown[other.der]
        assert load.loop.run(DEADLINE, stage.is_idle), f"{stage.usage()}, and before all {stage.idle}"


def test_a_worker_that_is_killed_takes_only_its_own_sessions_with_it(tmp_path: Path) -> None:
    """The sessions of other workers continue, new ones open within a second, and the worker is replaced."""
    with staged(tmp_path, PACE, PINGS, workers=2) as stage:
        load, tally = stage.load, stage.load.tally
        filled(stage, VISITS)
        load.loop.run(2)
        workers = {pid: connections(pid) for pid in tree([stage.proxy.pid]) - {stage.proxy.pid}}
        victim = max(workers, key=lambda pid: len(workers[pid]))
        assert len(workers) == 2 and all(workers.values()), workers

        before = {console.number: console for console in load.consoles.values()}
        doomed = {
            number
            for number, console in before.items()
            if (console.door.port, console.port) in workers[victim]
        }
        assert 0 < len(doomed) < CONSOLES
        os.kill(victim, signal.SIGKILL)
        at = time.monotonic()
        tally.take()
        load.loop.run(DEADLINE, lambda: len(tally.of(Fault.LOST)) >= len(doomed))
        assert load.loop.run(DEADLINE, load.is_full), tally.report()
        load.loop.run(3)

        # Sessions that were just opening died with it as well.
        lost = {failure.console for failure in tally.failures if failure.console in before}
        assert lost == doomed, tally.report()
        assert all(failure.begun < at for failure in tally.failures), tally.report()
        assert not tally.of(Fault.WRONG) and not tally.of(Fault.LINGERS), tally.report()
        _, openings = tally.take()
        assert openings.count > VISITS and openings.longest < 1.0, openings

        replaced = tree([stage.proxy.pid]) - {stage.proxy.pid}
        assert victim not in replaced and len(replaced) == len(workers)
        known = len(tally.failures)
        assert load.finish(), tally.report()
        assert len(tally.failures) == known, tally.report()


def connections(pid: int) -> set[tuple[int, int]]:
    """Return the TCP connections of this process: its own port and that of the other side."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind, _, inode = os.readlink(entry).partition(":")
        except OSError:  # closed meanwhile
            continue
        if kind == "socket":
            inodes.add(inode.strip("[]"))
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {(_port(row[1]), _port(row[2])) for row in rows if row[9] in inodes}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)

"""The metrics of several processes: exact over their files, after merging, after a SIGKILL at any step."""

import contextlib
import os
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from esxiproxy.ops.metrics import files
from esxiproxy.ops.metrics.exposition import FolderChanged, expose, read_folder
from esxiproxy.ops.metrics.files import Index, lock_file
from esxiproxy.ops.metrics.mapped_file import ReservedFile
from esxiproxy.ops.metrics.merging import merge_dead
from tests.ops.metrics_world import COUNTING, ended, kill, run, samples, total


def values_of(folder):
    """Return the values that a merge must not change: all but those of gauges."""
    return {
        name: value
        for name, value in samples(folder).items()
        if not name.startswith(("sessions_open{", "sessions_closed"))
    }


def test_the_values_of_processes_are_summed_up(folder, start):
    start(5, 2), start(7, 0), start(0, 0)
    assert samples(folder) == {
        **{f"event_loop_lag_seconds_{name}": value for name, value in (("count", 3), ("sum", 1.5))},
        "bytes_total{direction=down,listener=secure,upstream=esxi1}": 200,
        "bytes_total{direction=up,listener=secure,upstream=esxi1}": 20,
        "handshakes_failed_total{host=,listener=secure,reason=UpstreamRefused,upstream=}": 9,
        **{
            f"handshake_seconds_{name}{{listener=secure,phase={phase},upstream=esxi1}}": value
            for phase in ("authenticated", "routed", "opened")
            for name, value in (("count", 12), ("sum", 0))
        },
        "refusals_total{limit=max_sessions}": 3,
        "sessions_closed_total{listener=secure,reason=WorkerLost,upstream=esxi1}": 0,
        "sessions_closed_total{listener=secure,reason=normal,upstream=esxi1}": 2,
        "sessions_open{host=esxi7,listener=secure,upstream=esxi1}": 10,
        "sessions_opened_total{listener=secure,upstream=esxi1}": 12,
    }


def test_consoles_of_a_killed_process_have_ended_and_are_not_open(folder, start):
    doomed = start(5, 2)
    start(7, 1)
    before = values_of(folder)
    kill(doomed)
    assert total(folder, "sessions_closed_total", "reason") == {"normal": 3, "WorkerLost": 3}
    assert total(folder, "sessions_open") == 6
    assert total(folder, "sessions_opened_total") == 12
    assert values_of(folder) == before


def test_a_process_that_ended_has_lost_nothing(folder, start):
    process = start(4, 4)
    before = samples(folder)
    before.pop("sessions_open{host=esxi7,listener=secure,upstream=esxi1}")
    assert ended(process) == 0
    assert samples(folder) == before
    assert "WorkerLost" not in total(folder, "sessions_closed_total", "reason")


def test_many_ended_processes_leave_a_bounded_number_of_files(folder, start):
    for _ in range(6):
        kill(start(3, 1))
        expose(folder)
    assert len(list(folder.iterdir())) <= 5
    assert total(folder, "sessions_opened_total") == 18
    assert total(folder, "sessions_closed_total", "reason") == {"normal": 6, "WorkerLost": 12}


def test_files_of_a_running_process_are_not_merged(folder, start):
    start(5, 2)
    assert merge_dead(folder) == 0
    assert not (folder / "merged.json").exists()


def test_a_killed_process_whose_number_is_used_again_has_ended(folder, start):
    """The number of a process says nothing about its files: the lock does."""
    process = start(2, 0)
    kill(process)
    (owner,) = {files.owner_of(path) for path in folder.glob("process_*.lock")}
    again = f"{os.getpid()}-{owner.partition('-')[2]}"
    for path in list(folder.glob(f"*{owner}*")):
        path.rename(path.with_name(path.name.replace(owner, again)))
    assert merge_dead(folder) == 1
    assert total(folder, "sessions_closed_total", "reason") == {"WorkerLost": 2}


def test_two_processes_with_one_number_have_files_of_their_own(folder, start):
    start(1, 0), start(1, 0)
    owners = {files.owner_of(path) for path in folder.glob("*.db")}
    assert len(owners) == 2 and all(len(owner.partition("-")[2]) == 16 for owner in owners)


def test_a_process_that_is_killed_while_it_counts_leaves_consistent_counts(folder):
    program = (
        COUNTING
        + """
print("counting", flush=True)
while True:
    session = opened_session(next(number), observer)
    if session.id[-1] in "05a":
        end(session, observer)
"""
    )
    counted = 0
    for delay in (0, 0.003, 0.01, 0.0301, 0.05):
        process = run(folder, program)
        assert process.stdout.readline() == "counting\n"
        threading.Event().wait(delay)  # any point of its work will do
        kill(process)
        opened = total(folder, "sessions_opened_total")
        assert opened == total(folder, "sessions_closed_total") and total(folder, "sessions_open") == 0
        assert opened >= counted
        counted = opened
    assert counted > 0


# A SIGKILL in the middle of a merge


class SteppedOn(BaseException):
    """Ends a merge as SIGKILL does: nothing is cleaned up but the locks, as the kernel does."""


STEPS = (
    *((Path, "unlink"), (Path, "replace"), (Path, "write_text")),
    *((ReservedFile, "__init__"), (ReservedFile, "write_value"), (ReservedFile, "close")),
)


def merge_until(folder, at, after):
    """Merge up to the step number ``at``, which is done or not; return the steps that were begun."""
    steps = []

    def stepping(real):
        def step(*args, **kwargs):
            steps.append(real.__name__)
            if len(steps) == at + 1 and not after:
                raise SteppedOn
            result = real(*args, **kwargs)
            if len(steps) == at + 1:
                raise SteppedOn
            return result

        return step

    with pytest.MonkeyPatch.context() as patch:
        for kind, name in STEPS:
            patch.setattr(kind, name, stepping(getattr(kind, name)))
        with contextlib.suppress(SteppedOn):
            merge_dead(folder)
    return steps


def read(folder):
    """Return all values of a folder, which is only read."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in read_folder(folder)
        for sample in family.samples
    }


def is_balanced(found):
    sums = Counter()
    for (name, *_), value in found.items():
        sums[name] += value
    return (
        sums["esxiproxy_sessions_opened_total"]
        == sums["esxiproxy_sessions_closed_total"] + sums["esxiproxy_sessions_open"]
        == 2 + 3 + 4 + 5
    )


def without_ends(found):
    """Return the values that a merge does not change."""
    names = "esxiproxy_sessions_open", "esxiproxy_sessions_closed_total"
    return {key: value for key, value in found.items() if key[0] not in names}


@pytest.fixture
def copied(folder, start, tmp_path):
    """Return a function that copies a folder: a merged process, two that have ended, and one that lives."""
    kill(start(2, 1))
    merge_dead(folder)
    kill(start(3, 1)), kill(start(4, 0))
    start(5, 2)
    (alive,) = (path.name for path in folder.glob("process_*.lock") if lock_file(path, False, False) is None)
    with contextlib.ExitStack() as stack:

        def copy():
            path = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
            shutil.copytree(folder, path)
            stack.callback(os.close, lock_file(path / alive, wait=False, create=False))
            return path

        yield copy


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_merge_that_is_killed_at_any_step_loses_and_doubles_nothing(copied, after):
    whole = copied()
    unmerged = read(whole)
    assert merge_dead(whole) == 2
    merged, remaining = read(whole), sorted(path.name for path in whole.iterdir())
    assert is_balanced(unmerged) and is_balanced(merged) and without_ends(unmerged) == without_ends(merged)
    seen = []
    for at in range(1000):
        folder = copied()
        steps = merge_until(folder, at, after)
        assert read(folder) in (unmerged, merged), steps
        merge_dead(folder)
        assert read(folder) == merged, steps
        assert sorted(path.name for path in folder.iterdir()) == remaining, steps
        if len(steps) <= at:  # this one was not interrupted
            break
        seen.append(steps[-1])
    assert {name for _, name in STEPS} == set(seen) and len(seen) > 50


def test_two_merges_at_once_count_each_value_once(copied):
    folder = copied()
    unmerged = read(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock_file(folder / "merge.lock", wait=False, create=True))
        assert merge_dead(folder) == 0
        assert read(folder) == unmerged
    assert merge_dead(folder) == 2
    assert merge_dead(folder) == 0
    assert is_balanced(read(folder))


def test_a_reader_beside_merges_sees_each_value_once(folder, start):
    """An old and a new admin process: one merges while the other one reads."""
    for _ in range(8):
        kill(start(2, 1))
    locks = [lock_file(path, wait=False, create=False) for path in folder.glob("process_*.lock")]
    expected = without_ends(read(folder))
    stop, wrong = threading.Event(), []

    def reader():
        while not stop.is_set():
            found = read(folder)
            if without_ends(found) != expected:
                wrong.append(found)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for lock in locks:  # each process ends, and is merged
            os.close(lock)
            assert merge_dead(folder) == 1
    finally:
        stop.set()
        thread.join(60)
    assert not wrong and without_ends(read(folder)) == expected


def test_a_folder_that_never_rests_is_reported(folder, start, monkeypatch):
    start(1, 0)
    numbers = iter(range(10**6))
    monkeypatch.setattr(Index, "of", classmethod(lambda cls, folder: cls(next(numbers))))
    with pytest.raises(FolderChanged, match="change all the time"):
        read_folder(folder)

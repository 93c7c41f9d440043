"""The balance of connections between workers, by the loads on the scoreboard."""

import os

import pytest

from esxiproxy.workers.shared.balancing import STALE, WorkerLoad, may_accept
from esxiproxy.workers.shared.scoreboard import Scoreboard

NOW = 1000.0


def loads(*held, seen=NOW):
    return [WorkerLoad(count, seen) for count in held]


def test_the_worker_with_the_fewest_connections_may_always_accept():
    for held in ((0, 0), (5, 5), (0, 9, 9), (7, 8, 9), (500, 500, 499, 501)):
        assert may_accept(held.index(min(held)), loads(*held), NOW)


def test_a_worker_over_its_share_may_not_accept():
    assert not may_accept(0, loads(10, 0), NOW)
    assert not may_accept(0, loads(530, 500, 500, 470), NOW)
    assert may_accept(0, loads(505, 500, 500, 495), NOW)


def test_no_worker_gets_a_fifth_more_than_the_mean_in_any_order():
    for workers in (2, 3, 4, 8, 16):
        held = [0] * workers
        for _ in range(1000):
            number = next(n for n in range(workers) if may_accept(n, loads(*held), NOW))
            held[number] += 1
        assert max(held) <= 1.2 * 1000 / workers, held


def test_a_worker_without_a_heartbeat_does_not_count():
    mine, dead = WorkerLoad(10, NOW), WorkerLoad(0, NOW - STALE - 0.1)
    assert may_accept(0, [mine, dead], NOW)
    assert not may_accept(0, [mine, WorkerLoad(0, NOW - STALE / 2)], NOW)


def test_a_worker_that_accepts_no_connections_does_not_count():
    assert may_accept(0, [WorkerLoad(10, NOW), WorkerLoad(0, 0.0)], NOW)
    assert may_accept(0, [WorkerLoad(10, NOW), WorkerLoad(0, -NOW)], NOW)


def test_a_worker_with_a_late_heartbeat_counts_its_own_connections():
    assert may_accept(0, [WorkerLoad(10, NOW - 9), WorkerLoad(10, NOW)], NOW)
    assert not may_accept(0, [WorkerLoad(20, 0.0), WorkerLoad(10, NOW)], NOW)


def test_other_processes_read_the_scoreboard():
    one = Scoreboard.new(3)
    other = Scoreboard(os.dup(one.descriptor), 3)
    other.set_connections(1, 17)
    other.heartbeat(1, 5_000_000_000)
    assert one.loads() == [WorkerLoad(0, 0.0), WorkerLoad(17, 5.0), WorkerLoad(0, 0.0)]
    one.clear(1)
    assert other.loads() == [WorkerLoad(0, 0.0)] * 3
    one.close(), other.close()


def test_a_failed_mapping_leaves_no_descriptor(monkeypatch):
    def no_memory(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", no_memory)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Cannot allocate memory"):
        Scoreboard.new(3)
    assert set(os.listdir("/proc/self/fd")) == before

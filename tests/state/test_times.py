"""Changes of the time of day, reboots, and processes of an older version on the same database."""

import sqlite3
import time
from contextlib import closing

import pytest

from esxiproxy.core.session.claim import RateClaim, SlotClaim
from esxiproxy.core.session.command import Command, CommandKind
from esxiproxy.state import times
from esxiproxy.state.lease import LEASE, LOST_SESSION_RETENTION
from esxiproxy.state.times import Times
from tests.state.world import SqliteWorld
from tests.support.outcome import result

ONE = SlotClaim("max_connections", "upstream 192.0.2.10", 1)
RATE = RateClaim("session_rate", "client 192.0.2.7", 1.0, 3)
STEPS = (-86400.0, -10.0, 120.0, 2 * LOST_SESSION_RETENTION)


@pytest.fixture
def world(tmp_path):
    return SqliteWorld(tmp_path)


@pytest.fixture
def older(world):
    """Return the statements of a process of the previous version."""
    result(world.new().in_use([]))
    with closing(sqlite3.connect(world.path, isolation_level=None)) as connection:
        yield connection


def used(state):
    return result(state.in_use([ONE.name]))[ONE.name]


@pytest.mark.parametrize("step", STEPS)
def test_setting_the_time_of_day_does_not_expire_the_lease_of_a_running_process(world, step):
    one, other = world.new(), world.new()
    entry = world.entry(one)
    result(one.publish(entry)), result(one.take("a", [ONE]))
    world.day += step
    assert list(result(other.sessions())) == [entry]
    assert result(other.take("b", [ONE])) == ONE and used(other) == 1
    world.advance(3 * LEASE)
    assert list(result(other.sessions())) == [entry] and used(other) == 1


@pytest.mark.parametrize("step", STEPS)
def test_setting_the_time_of_day_does_not_extend_a_lease(world, step):
    one, other = world.new(), world.new()
    result(one.take("a", [ONE]))
    world.kill(one)
    world.day += step
    world.advance(LEASE - 1)
    assert used(other) == 1
    world.advance(1)
    assert used(other) == 0


@pytest.mark.parametrize("step", STEPS)
def test_setting_the_time_of_day_does_not_change_a_rate(world, step):
    state = world.new()
    for slot in "abc":
        assert result(state.take(slot, [RATE])) is None
    assert result(state.take("d", [RATE])) == RATE
    world.day += step
    assert result(state.take("e", [RATE])) == RATE
    world.advance(1)
    assert result(state.take("f", [RATE])) is None
    assert result(state.take("g", [RATE])) == RATE


@pytest.mark.parametrize("step", STEPS)
def test_setting_the_time_of_day_loses_no_command(world, step):
    one, other, third = world.new(), world.new(), world.new()
    entry = world.entry(one)
    result(one.publish(entry))
    process = world.freeze(one)
    kill = Command(CommandKind.KILL, entry.session, "at noon")
    assert result(other.tell(kill)) is True
    world.day += step
    world.advance(LEASE / 2)  # other processes delete what has expired
    world.thaw(one, process)
    world.advance(2)
    assert world.obeyed == [(one.instance_id, kill)] and third


@pytest.mark.parametrize("uptime", [5.0, 1_000_000.0, 1_000_010.0, 9_000_000.0])
def test_slots_and_sessions_from_before_a_reboot_are_released(world, uptime):
    before = world.new()
    entry = world.entry(before)
    result(before.publish(entry)), result(before.take("a", [ONE, RATE]))
    result(before.take("b", [RATE])), result(before.take("c", [RATE]))
    world.kill(before)
    world.restart(seconds=10, uptime=uptime)
    state = world.new()
    assert used(state) == 0 and list(result(state.sessions())) == []
    assert [result(state.take(slot, [ONE, RATE])) for slot in "d"] == [None]
    assert list(result(state.reclaim(before.instance_id))) == [entry]


def test_each_boot_has_another_identifier(monkeypatch, tmp_path):
    here = Times.of_this_machine()
    assert here == Times.of_this_machine() and len(here.boot) == 36
    assert abs(here.since_boot() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    monkeypatch.setattr(times, "_BOOT_ID", tmp_path / "none")
    assert Times.of_this_machine().boot == ""


# An older version


def test_the_lease_of_an_older_version_is_measured_on_the_time_of_day(world, older):
    state = world.new()
    day = world.day + world._now
    older.execute("INSERT INTO holders VALUES ('older', ?)", (day + LEASE,))
    older.execute("INSERT INTO slots VALUES (?, 'x', 'older')", (ONE.name,))
    assert used(state) == 1
    world.advance(LEASE - 1)
    assert used(state) == 1
    world.advance(1)
    assert used(state) == 0


def test_an_older_version_can_read_a_lease(world, older):
    state = world.new()
    world.advance(7 * LEASE)
    ((expires,),) = older.execute(
        "SELECT expires FROM holders WHERE holder = ?", (state.instance_id,)
    ).fetchall()
    day = world.day + world._now
    assert day < expires <= day + LEASE


def test_an_instance_deleted_by_an_older_version_is_restored(world, older):
    one, other = world.new(), world.new()
    entry = world.entry(one)
    result(one.publish(entry)), result(one.take("a", [ONE]))
    for table in ("slots", "sessions", "holders", "commands", "lost"):
        older.execute(f"DELETE FROM {table} WHERE holder = ?", (one.instance_id,))
    world.advance(LEASE)
    assert used(other) == 1 and list(result(other.sessions())) == [entry]


def test_rows_that_an_older_version_leaves_of_a_dead_instance_are_deleted(world, older):
    one, _other = world.new(), world.new()
    world.kill(one)
    older.execute("DELETE FROM holders WHERE holder = ?", (one.instance_id,))
    world.advance(LEASE)
    found = older.execute("SELECT * FROM leases WHERE holder = ?", (one.instance_id,)).fetchall()
    assert found == []

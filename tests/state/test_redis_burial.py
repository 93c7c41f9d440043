"""The slots, marks and sessions of a dead process in Redis are released in parts, each in one short call."""

import pytest

from esxiproxy.core.session.claim import OnceClaim, SlotClaim
from esxiproxy.state.lease import LEASE
from esxiproxy.state.redis_lists import PART
from tests.support.outcome import result
from tests.support.redis_server import PREFIX

COUNT = 2 * PART + 10
MANY = SlotClaim("max_sessions", "listener a", 2 * COUNT)


@pytest.fixture
def world(redis_world):
    return redis_world


def in_use(world):
    return world.client.call("HLEN", f"{PREFIX}c:{MANY.name}")


@pytest.fixture
def sleeper(world):
    """Return a process with more than one call may release, and its consoles."""
    world.admits_when_down = True
    state = world.new()
    entries = [world.entry(state) for _ in range(COUNT)]
    world.servers[state].is_away = True
    for entry in entries:
        assert result(state.take(entry.session, [MANY])) is None
        state.publish(entry)
    world.servers[state].is_away = False
    world.advance(1)
    link = OnceClaim("link", world.time_of_day() + 3600)
    assert result(state.take(entries[0].session, [link])) is None
    assert in_use(world) == COUNT
    return state, entries


def test_a_call_releases_a_part_and_the_sessions_are_reclaimed_once(world, sleeper):
    dead, entries = sleeper
    other = world.new()
    world.kill(dead)
    world.advance(LEASE - 5)
    world.freeze(other)
    world.advance(6)
    left = [COUNT]
    while left[-1]:
        result(other.in_use([]))
        left.append(in_use(world))
    assert left == [COUNT, COUNT - PART, COUNT - 2 * PART, 0]
    assert world.client.call("ZCARD", f"{PREFIX}holders") == 1
    found = result(other.reclaim_expired(0))
    assert sorted(entry.session for entry in found) == sorted(entry.session for entry in entries)
    assert list(result(other.reclaim_expired(0))) == list(result(other.sessions())) == []
    keys = {key for key in world.client.call("KEYS", "*") if dead.instance_id.encode() in key}
    assert keys == {f"{PREFIX}claimed:{dead.instance_id}".encode()}


def test_a_process_that_resumes_when_a_part_was_released_has_everything_again(world, sleeper):
    sleepy, _entries = sleeper
    other = world.new()
    process = world.freeze(sleepy)
    world.advance(LEASE - 5)
    away = world.freeze(other)
    world.advance(6)
    result(other.in_use([]))
    assert in_use(world) == COUNT - PART
    process.rightNow = away.rightNow = world._now  # their timers have not run yet
    world.thaw(sleepy, process)
    result(sleepy.in_use([]))
    assert in_use(world) == COUNT
    assert len(result(other.sessions())) == COUNT
    world.thaw(other, away)
    world.advance(LEASE)
    assert in_use(world) == COUNT
    assert list(result(other.reclaim_expired(0))) == []


def test_a_poll_releases_the_rest(world, sleeper):
    dead, _entries = sleeper
    other = world.new()
    world.kill(dead)
    world.advance(LEASE + 4)
    assert in_use(world) == 0 and len(result(other.reclaim_expired(0))) == COUNT

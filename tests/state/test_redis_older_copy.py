"""A Redis server that was restarted from an older copy of its data, of which living processes know more."""

import pytest

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import OnceClaim, SlotClaim
from esxiproxy.state.lease import LEASE
from esxiproxy.state.redis_claims import REGISTRATION
from esxiproxy.state.redis_protocol import ServerIdentity
from tests.support.logs import process_log
from tests.support.outcome import result

ONE = SlotClaim("max_connections", "host 192.0.2.10", 1)


@pytest.fixture
def world(redis_world):
    return redis_world


def known(world, *states, number=1):
    """Let the processes know the run id of their server."""
    for state in states:
        world.servers[state].identity = ServerIdentity(number, f"run id {number}")


def save(world):
    """Copy all data, as a snapshot does."""
    for key in world.client.call("KEYS", "*"):
        assert world.client.call("COPY", key.decode(), key.decode(), "DB", "1", "REPLACE") == 1


def restart(world, *states):
    """Let the processes be connected to a server that was started from the copy."""
    assert world.client.call("SWAPDB", "0", "1") == b"OK"
    known(world, *states, number=2)


def new_at(world, number):
    """Start a process that has known no other server."""
    make = world.make

    def make_known(process):
        state = make(process)
        known(world, state, number=number)
        return state

    world.make = make_known
    state = world.new()
    world.make = make
    return state


@pytest.fixture
def states(world):
    one, other = world.new(), world.new()
    known(world, one, other)
    world.advance(REGISTRATION + 1)
    return one, other


def test_marks_and_lost_sessions_of_an_older_copy_are_not_believed(world, states):
    one, other = states
    stopped, dead, link = world.new(), world.new(), OnceClaim("link", world.time_of_day() + 3600)
    for state in (stopped, dead):
        result(state.publish(world.entry(state)))
    world.kill(dead)
    world.advance(2 * LEASE)
    stays = world.entry(one)
    result(one.publish(stays)), result(one.take("open", [ONE]))
    save(world)
    assert len(result(other.reclaim_expired(0))) == 1
    result(stopped.stop())
    world.kill(stopped)
    assert result(one.take("a", [link])) is None
    result(one.give("a"))
    world.advance(30)
    before = world.time_of_day()
    restart(world, one, other)
    with process_log() as lines, pytest.raises(StateUnavailable, match="all proxies register"):
        result(other.take("b", [ONE]))
    assert len(lines) == 1 and "was emptied or is an older copy" in lines[0]
    world.advance(REGISTRATION + 1)
    assert one.since == other.since == before, "so that the router refuses links that were made before"
    assert result(other.take("b", [ONE])) == ONE
    assert list(result(other.sessions())) == [stays]
    world.advance(2 * LEASE)
    assert list(result(other.reclaim_expired(0))) == [] and list(result(one.reclaim_expired(0))) == []
    assert one.since == other.since == before


def test_a_process_that_is_connected_late_finds_the_older_copy(world, states):
    one, late = states
    save(world)
    world.advance(30)
    world.servers[one].is_away = world.servers[late].is_away = True
    restart(world, one, late)
    new = new_at(world, number=2)
    begin = new.since
    world.advance(20)
    assert result(new.take("a", [ONE])) is None and new.since == begin, "a new process cannot know"
    world.servers[late].is_away = False
    world.advance(1.5)
    assert new.since == late.since == pytest.approx(world.time_of_day() - 21.5, abs=1)
    entry = world.entry(new)
    result(new.publish(entry))
    assert list(result(late.sessions())) == [entry]


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("seconds", [0, 4, 30, 3600])
def test_a_copy_that_lacks_the_last_two_seconds_is_believed(world, states, lag, seconds):
    one, other = states
    since = one.since
    for step in range(5):
        world.advance(step)
        save(world)
        world.advance(lag)
        world.servers[one].is_away = world.servers[other].is_away = True
        world.leap(seconds)
        world.servers[one].is_away = world.servers[other].is_away = False
        world.client.call("SWAPDB", "0", "1")
        known(world, one, other, number=step + 2)
        world.advance(2 * REGISTRATION)
        assert one.since == other.since == since
    assert result(one.take("a", [ONE])) is None

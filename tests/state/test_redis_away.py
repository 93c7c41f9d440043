"""Redis hangs for longer than the leases, or its clock is set: the processes live, and limits hold."""

import pytest

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import OnceClaim, SlotClaim
from esxiproxy.state.lease import LEASE, RENEWALS_PER_LEASE
from esxiproxy.state.redis_claims import REGISTRATION
from tests.support.outcome import result

MOST = 4
HOST = SlotClaim("max_connections", "host 192.0.2.10", MOST)


@pytest.fixture
def world(redis_world):
    return redis_world


@pytest.fixture
def states(world):
    """Return a process with all slots of the host and an open link, and one with a later lease."""
    full = world.new()
    world.advance(LEASE / RENEWALS_PER_LEASE - 1)
    other = world.new()
    assert [result(full.take(f"a{number}", [HOST])) for number in range(MOST + 1)] == [None] * MOST + [HOST]
    assert result(full.take("link", [link(world)])) is None
    result(full.publish(world.entry(full)))
    world.advance(LEASE + 0.25)
    return full, other


def link(world):
    return OnceClaim("links: an open console", world.day + 1_100_000, reuse=600.0, most=9)


def flood(world, state, seconds):
    """Take slots and the link over and over, and return how many were taken."""
    taken = 0
    for number in range(int(seconds * 4)):
        for claim in (HOST, link(world)):
            try:
                taken += result(state.take(f"b{number}", [claim])) is None
            except StateUnavailable:
                continue
        world.advance(0.25)
    return taken


def hang(world, states, seconds):
    for state in states:
        world.servers[state].is_away = True
    world.advance(seconds)
    for state in states:
        world.servers[state].is_away = False


@pytest.mark.parametrize("seconds", [12, 20])
def test_a_limit_holds_after_redis_was_away_for_longer_than_the_leases(world, states, seconds):
    full, other = states
    hang(world, states, seconds)
    assert flood(world, other, 6) == 0
    assert result(other.in_use([HOST.name])) == {HOST.name: MOST}
    assert [entry.holder for entry in result(other.sessions())] == [full.instance_id]


@pytest.mark.parametrize("step", [13, 3600, -20, -86400])
def test_a_limit_and_an_open_link_hold_when_the_clock_of_redis_is_set(world, states, step):
    full, other = states
    world.day += step
    assert flood(world, other, 6) == 0
    assert result(other.in_use([HOST.name])) == {HOST.name: MOST}
    assert [entry.holder for entry in result(other.sessions())] == [full.instance_id]
    assert list(result(other.reclaim_expired(0))) == []


def test_nothing_is_admitted_until_all_have_registered_after_a_hang(world, states):
    full, other = states
    hang(world, states, 20)
    with pytest.raises(StateUnavailable, match="was away"):
        result(other.take("b", [SlotClaim("x", "x", 9)]))
    world.advance(REGISTRATION)
    assert result(other.take("b", [SlotClaim("x", "x", 9)])) is None
    assert result(full.take("c", [SlotClaim("x", "x", 9)])) is None


@pytest.mark.parametrize("step", [0, -40])
def test_a_process_that_died_while_redis_was_away_is_released(world, states, step):
    full, other = states
    world.kill(full)
    hang(world, [other], 20)
    world.day += step
    world.advance(REGISTRATION + 1)
    assert (result(other.take("b", [HOST])) is None) is (step == 0)
    world.advance(2 * LEASE)
    assert result(other.take("b", [HOST])) is None


def test_a_process_that_is_suspended_alone_is_released_without_a_registration(world, states):
    full, other = states
    world.kill(full)
    world.advance(LEASE)
    assert result(other.take("b", [HOST])) is None

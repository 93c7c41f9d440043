"""`state_down = admit`: consoles are admitted while Redis is away, and registered when it is back."""

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.authenticators.login_throttle import LoginThrottle
from esxiproxy.core.errors import LinkUsed, StateUnavailable
from esxiproxy.core.session.claim import OnceClaim, RateClaim, SlotClaim
from esxiproxy.state.lease import LEASE
from esxiproxy.state.own_slots import OwnSlots
from esxiproxy.state.redis_claims import SCHEMA_VERSION
from tests.support.outcome import result
from tests.support.redis_server import PREFIX

TWO = SlotClaim("max_connections", "host 192.0.2.10", 2)
RATE = RateClaim("session_rate", "rate 198.51.100.7/32", 1.0, 2)


@pytest.fixture
def world(redis_world):
    redis_world.admits_when_down = True
    return redis_world


def in_use(state):
    return result(state.in_use([TWO.name]))[TWO.name]


def away(world, *states, is_away=True):
    for state in states:
        world.servers[state].is_away = is_away


def test_each_process_keeps_the_limits_alone_while_redis_is_away(world):
    one, other = world.new(), world.new()
    assert result(one.take("a", [TWO])) is None
    away(world, one, other)
    assert result(one.take("b", [TWO])) is None
    assert result(one.take("a", [TWO])) is None, "it has this claim"
    assert result(one.first_refused([TWO])) == TWO
    assert result(one.take("c", [RATE, TWO])) == TWO
    assert result(other.take("d", [TWO])) is None, "a limit holds for each process"
    assert [result(one.take("e", [RATE])) for _ in range(3)] == [None, None, RATE]
    world.advance(1)
    assert result(one.take("e", [RATE])) is None
    result(one.give("b"))
    assert result(one.first_refused([TWO])) is None


def test_what_runs_is_registered_when_redis_is_back(world):
    one, other = world.new(), world.new()
    entry = world.entry(one)
    away(world, one)
    assert result(one.take("a", [TWO])) is None
    assert result(one.take("b", [TWO])) is None
    result(one.give("b")), result(one.publish(entry))
    assert in_use(other) == 0
    world.advance(2 * LEASE)
    away(world, one, is_away=False)
    world.advance(1)
    assert in_use(other) == 1
    assert list(result(other.sessions())) == [entry]
    assert result(other.take("c", [TWO])) is None
    assert result(other.take("d", [TWO])) == TWO
    assert result(one.take("d", [TWO])) == TWO, "the limit is that of all again"


def test_a_slot_of_a_call_whose_reply_is_lost_is_registered(world):
    one, other = world.new(), world.new()
    server = world.servers[one]
    run = server.run

    def full(script, key, *arguments):
        if arguments[0] != "take":
            return run(script, key, *arguments)
        return run("return redis.error_reply('OOM it is full')", key)

    server.run = full
    assert result(one.take("a", [TWO])) is None
    server.run = run
    world.advance(1)
    assert in_use(other) == 1


def test_a_link_that_works_once_is_refused_while_redis_is_away(world):
    state = world.new()
    link = OnceClaim("link", world.time_of_day() + 60)
    away(world, state)
    for call in (lambda: state.take("a", [TWO, link]), lambda: state.first_refused([link])):
        with pytest.raises(StateUnavailable) as refused:
            result(call())
        assert refused.value.name == "StateUnavailable"
    away(world, state, is_away=False)
    assert in_use(state) == 0, "all or nothing"
    assert result(state.take("a", [TWO, link])) is None
    assert isinstance(result(state.take("b", [link])).refusal, LinkUsed)


def test_nothing_is_admitted_while_an_emptied_redis_is_filled(world):
    state = world.new()
    world.client.call("FLUSHALL")
    with pytest.raises(StateUnavailable, match="all proxies register"):
        result(state.take("a", [TWO]))
    world.advance(2.5)
    assert result(state.take("a", [TWO])) is None


def test_a_database_that_cannot_be_used_is_not_away(world):
    state, throttle = world.new(), LoginThrottle(world.new(), "login", world.time_of_day)
    world.client.call("SET", f"{PREFIX}schema", "9")
    for call in (
        lambda: state.take("a", [TWO]),
        lambda: state.first_refused([TWO]),
        lambda: Deferred.fromCoroutine(throttle.check("192.0.2.0/24")),
        lambda: Deferred.fromCoroutine(throttle.failed("192.0.2.0/24")),
    ):
        with pytest.raises(StateUnavailable, match="schema version 9"):
            result(call())
    world.client.call("SET", f"{PREFIX}schema", SCHEMA_VERSION)
    world.advance(1)
    assert result(state.take("a", [TWO])) is None


def test_a_server_that_forgets_each_registration_is_not_away(world):
    state = world.new()
    run = world.servers[state].run

    def forgetting(script, key, *arguments):
        world.client.call("DEL", f"{PREFIX}holders")
        return run(script, key, *arguments)

    world.servers[state].run = forgetting
    with pytest.raises(StateUnavailable, match="forgets this process"):
        result(state.take("a", [TWO]))


def test_without_the_key_nothing_is_admitted(redis_world):
    state = redis_world.new()
    away(redis_world, state)
    with pytest.raises(StateUnavailable):
        result(state.take("a", [TWO]))
    assert state.admits_when_down is False


def test_a_stopped_state_admits_nothing(world):
    state = world.new()
    away(world, state)
    result(state.stop())
    with pytest.raises(StateUnavailable):
        result(state.take("a", [TWO]))


def test_buckets_that_are_full_are_deleted():
    slots = OwnSlots()
    for number in range(5000):
        rate = RateClaim("session_rate", f"rate {number}", 10.0, 1)
        assert slots.first_refused("", [rate], number) is None
        slots.spend([rate], number)
    assert len(slots._full_at) <= 1024

"""The state in Redis when a call is lost or cancelled, and the content of the database."""

import pytest
from twisted.internet.defer import Deferred, fail

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import OnceClaim, Outcome, RateClaim, SlotClaim
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.state.lease import LEASE
from esxiproxy.state.redis import PAGE
from esxiproxy.state.redis_lists import CONFIRMATION
from esxiproxy.state.redis_protocol import CallLost, CallRefused, ServerIdentity
from esxiproxy.state.redis_replies import RedisError
from esxiproxy.state.redis_server import failed_call
from tests.support.logs import process_log
from tests.support.outcome import result
from tests.support.redis_server import PREFIX

ONE = SlotClaim("max_connections", "host 192.0.2.10", 1)


@pytest.fixture
def world(redis_world):
    return redis_world


def once(world, **changed):
    return OnceClaim("links: secret-id", world.time_of_day() + 3600, **changed)


def count_calls(server, name):
    """Return a list to which each call of this name is added."""
    run, calls = server.run, []

    def counting(script, key, *arguments):
        if arguments[0] == name:
            calls.append(arguments)
        return run(script, key, *arguments)

    server.run = counting
    return calls


def lose_reply(server, name):
    """Make the next call of this name, and lose its reply."""
    run = server.run

    def losing(script, key, *arguments):
        reply = run(script, key, *arguments)
        if arguments[0] != name:
            return reply
        server.run = run
        return fail(CallLost("the reply is lost"))

    server.run = losing


def hold_reply(server, name):
    """Make the next call of this name, and return a list of the call that gives its reply."""
    run, held = server.run, []

    def holding(script, key, *arguments):
        reply = run(script, key, *arguments)
        if arguments[0] != name:
            return reply
        server.run = run
        later = Deferred()
        held.append(lambda: reply.addBoth(later.callback))
        return later

    server.run = holding
    return held


def test_a_take_whose_reply_is_lost_leaves_nothing(world):
    state, other, link = world.new(), world.new(), once(world)
    assert result(state.take("kept", [SlotClaim("x", "x", 9)])) is None
    lose_reply(world.servers[state], "take")
    with pytest.raises(StateUnavailable):
        result(state.take("a", [ONE, link]))
    world.advance(1)
    assert result(other.in_use([ONE.name, "x"])) == {ONE.name: 0, "x": 1}
    assert result(other.take("b", [ONE, link])) is None


def test_a_take_that_is_cancelled_leaves_nothing(world):
    state, other, link = world.new(), world.new(), once(world)
    held = hold_reply(world.servers[state], "take")
    taking = state.take("a", [ONE, link])
    taking.addErrback(lambda _: None)
    taking.cancel()
    held[0]()
    assert result(other.take("b", [ONE, link])) is None


def test_a_flood_over_a_rate_does_not_reach_redis(world):
    one, other = world.new(), world.new()
    rate = RateClaim("session_rate", "rate 198.51.100.7/32", 2.0, 4)
    calls = {state: count_calls(world.servers[state], "take") for state in (one, other)}
    takes = [result(state.take(str(number), [rate])) for number in range(1000) for state in (one, other)]
    assert takes.count(None) == 4, "the rate is that of all processes"
    assert len(calls[one]) <= 4 and len(calls[other]) <= 4
    world.advance(0.5)
    assert result(other.take("a", [rate])) is None
    assert [result(one.take("b", [rate])) for _ in range(100)] == [rate] * 100
    assert len(calls[one]) <= 6


def test_a_registration_waits_for_the_reply_to_a_take(world):
    state, other = world.new(), world.new()
    held = hold_reply(world.servers[state], "take")
    taking = state.take("a", [ONE])
    lose_reply(world.servers[state], "write")
    assert result(state.publish(world.entry(state))) is None
    world.advance(1)
    held[0]()
    assert result(taking) is None
    world.advance(1)
    assert result(other.in_use([ONE.name])) == {ONE.name: 1}
    assert len(result(other.sessions())) == 1


def test_what_ends_while_redis_is_away_is_written_afterwards(world):
    state, other, link = world.new(), world.new(), once(world, reuse=60.0, most=2)
    ended, stays = world.entry(state), world.entry(state)
    result(state.take("a", [ONE, link])), result(state.publish(ended)), result(state.publish(stays))
    world.servers[state].is_away = True
    result(state.give("a", Outcome.SPENT)), result(state.withdraw(ended.session))
    with pytest.raises(StateUnavailable):
        result(state.take("b", [ONE]))
    world.servers[state].is_away = False
    world.advance(1)
    assert list(result(other.sessions())) == [stays]
    assert result(other.take("c", [link])) == link
    assert result(other.take("c", [ONE])) is None


@pytest.mark.parametrize("name", ["reclaim", "reclaimed"])
def test_lost_sessions_are_returned_by_the_next_call_when_a_reply_is_lost(world, name):
    dead, alive, other = world.new(), world.new(), world.new()
    entry = world.entry(dead)
    result(dead.publish(entry))
    world.kill(dead)
    lose_reply(world.servers[alive], name)
    with pytest.raises(StateUnavailable):
        result(alive.reclaim(dead.instance_id))
    assert list(result(other.reclaim(dead.instance_id))) == []
    assert list(result(alive.reclaim(dead.instance_id))) == [entry]
    assert list(result(alive.reclaim(dead.instance_id))) == []


@pytest.mark.parametrize("name", ["reclaim_expired", "reclaimed"])
def test_expired_sessions_are_returned_once_when_a_reply_is_lost(world, name):
    dead, alive, other = world.new(), world.new(), world.new()
    entry = world.entry(dead)
    result(dead.publish(entry))
    world.kill(dead)
    world.advance(LEASE + 60)
    lose_reply(world.servers[alive], name)
    with pytest.raises(StateUnavailable):
        result(alive.reclaim_expired(60.0))
    assert list(result(other.reclaim_expired(60.0))) == []
    assert list(result(alive.reclaim_expired(60.0))) == [entry]
    assert list(result(alive.reclaim_expired(60.0))) == []


def refuse(server, text, *names):
    """Let the server answer calls of these names with an error; return a list of those that were made."""
    run, made = server.run, []

    def refusing(script, key, *arguments):
        made.append(arguments[0])
        refused = arguments[0] in names
        return fail(failed_call(RedisError(text))) if refused else run(script, key, *arguments)

    server.run = refusing
    return made


@pytest.mark.parametrize("code", ["OOM", "MISCONF", "NOREPLICAS"])
def test_a_call_that_redis_refuses_is_followed_by_no_registration(world, code):
    state, link = world.new(), once(world)
    server = world.servers[state]
    run, made = server.run, refuse(server, f"{code} it refuses writes", "take")
    for number in range(50):
        with pytest.raises(CallRefused, match="Redis"):
            result(state.take(f"a{number}", [ONE, link]))
    assert made == ["take"] * 50
    server.run = run
    assert result(state.take("b", [ONE, link])) is None


@pytest.mark.parametrize("text", ["OOM it is full", "ERR the script failed"])
def test_a_registration_that_redis_refuses_is_made_again_after_a_pause(world, text):
    state, other = world.new(), world.new()
    entry = world.entry(state)
    server = world.servers[state]
    run, made = server.run, refuse(server, text, "write", "register")
    result(state.publish(entry))
    for number in range(50):
        with pytest.raises(StateUnavailable):
            result(state.take(f"a{number}", [ONE]))
    assert made == ["write", "register"]
    world.advance(10)
    assert 8 <= made.count("register") <= 21 and set(made[1:]) == {"register"}
    server.run = run
    world.advance(2)
    assert list(result(other.sessions())) == [entry], "nothing is forgotten"
    assert result(state.take("b", [ONE])) is None


def test_sessions_that_another_process_has_read_meanwhile_are_its_own(world):
    dead, slow, other = world.new(), world.new(), world.new()
    entry = world.entry(dead)
    result(dead.publish(entry))
    world.kill(dead)
    world.advance(LEASE + 60)
    held = hold_reply(world.servers[slow], "reclaim_expired")
    waiting = slow.reclaim_expired(60.0)
    world.advance(CONFIRMATION)
    assert list(result(other.reclaim_expired(60.0))) == [entry]
    held[0]()
    assert list(result(waiting)) == []
    assert list(result(slow.reclaim_expired(60.0))) == []


def test_many_sessions_and_items_are_read_in_pages(world):
    state = world.new()
    entries = [world.entry(state, host=f"esx{number % 2}") for number in range(2 * PAGE + 1)]
    for entry in entries:
        state.publish(entry)
        result(state.put("s", entry.session, "1", float("inf")))
    assert list(result(state.sessions())) == sorted(entries, key=lambda entry: entry.cursor)
    assert len(result(state.sessions(where=Selector(SelectorKind.HOST, "esx1")))) == PAGE
    assert len(result(state.sessions("", 7, Selector(SelectorKind.HOST, "esx1")))) == 7
    assert len(result(state.items("s", "", 9999))) == 2 * PAGE + 1


def test_an_emptied_database_admits_no_session_for_two_seconds(world):
    state, other, link = world.new(), world.new(), once(world)
    result(state.take("a", [ONE, link]))
    world.client.call("FLUSHALL")
    with pytest.raises(StateUnavailable, match="emptied"):
        result(other.take("b", [ONE]))
    with pytest.raises(StateUnavailable, match="emptied"):
        result(other.first_refused([ONE]))
    world.advance(1.75)
    with pytest.raises(StateUnavailable, match="emptied"):
        result(other.take("b", [ONE]))
    world.advance(0.5)
    assert result(other.take("b", [ONE])) == ONE
    assert result(other.take("b", [link])) == link
    assert other.since == state.since > world.time_of_day() - 3


def test_all_keys_are_in_one_slot_and_no_link_is_in_the_database(world):
    state, other = world.new(), world.new()
    result(state.take("a", [ONE, once(world)])), result(state.publish(world.entry(state)))
    result(state.put("s", "k", "v", float("inf"))), result(state.lead("health"))
    world.kill(state)
    world.advance(2 * LEASE)
    keys = world.client.call("KEYS", "*")
    assert len(keys) > 8
    assert all(key.startswith(b"{esxiproxy}:") for key in keys if key != b"the-time-of-day")
    dumped = b"".join(world.client.call("DUMP", key) for key in keys)
    assert b"secret" not in dumped and not any(b"secret" in key for key in keys)
    assert result(other.lead("health")) is True


def test_expired_marks_items_and_lost_sessions_are_deleted(world):
    state, dead = world.new(), world.new()
    result(state.take("a", [once(world)])), result(state.give("a"))
    result(state.put("s", "k", "v", world.time_of_day() + 60)), result(dead.publish(world.entry(dead)))
    world.kill(dead)
    world.advance(2 * LEASE)
    world.leap(2 * 86400)
    world.advance(6)
    left = {key for key in world.client.call("KEYS", "*") if b"holders" not in key}
    assert left == {b"{esxiproxy}:schema", b"{esxiproxy}:origin", b"the-time-of-day"}


def test_a_server_that_lacks_the_last_writes_is_filled_before_anything_is_admitted(world):
    state, other, late = world.new(), world.new(), world.new()
    assert result(state.take("a", [ONE])) is None
    for each in (state, other, late):
        world.servers[each].identity = ServerIdentity(2, "the run id of a replica")
    world.client.call("DEL", f"{PREFIX}c:{ONE.name}", f"{PREFIX}h:slots:{state.instance_id}")
    with process_log() as lines, pytest.raises(StateUnavailable, match="is on another server"):
        result(other.take("b", [ONE]))
    assert lines == [], "it is the first server of which the run id is known"
    world.advance(1)
    assert result(late.in_use([ONE.name])) == {ONE.name: 1}, "it is registered again"
    world.advance(1)
    assert result(other.take("b", [ONE])) == ONE
    assert result(state.take("c", [SlotClaim("x", "x", 1)])) is None


def test_a_new_connection_to_the_same_server_admits_at_once(world):
    state = world.new()
    server = world.servers[state]
    for number in (1, 2, 3):
        server.identity = ServerIdentity(number, "a run id")
        if number == 1:
            result(state.publish(world.entry(state)))
            world.advance(2.5)
        assert result(state.take(str(number), [SlotClaim("x", "x", 9)])) is None
    with process_log() as lines:
        server.identity = ServerIdentity(4, "another run id")
        result(state.in_use(["x"]))
    assert len(lines) == 1 and "the Redis server was restarted or replaced by another one" in lines[0]


def test_a_registration_of_many_replaces_what_redis_has(world):
    state, other = world.new(), world.new()
    many = SlotClaim("max_sessions", "listener a", 10_000)
    entries = [world.entry(state) for _ in range(1200)]
    for number, entry in enumerate(entries):
        state.take(f"slot{number}", [many, SlotClaim("max_connections", f"host {number % 700}", 9)])
        state.publish(entry)
    key = f"{PREFIX}c:"
    world.client.call("HDEL", f"{key}{many.name}", "slot7")
    world.client.call("DEL", f"{key}host 5", f"{PREFIX}list")
    world.servers[state].is_away = True
    for number in (0, 1199):
        state.give(f"slot{number}"), state.withdraw(entries[number].session)
    world.servers[state].is_away = False
    world.advance(1)
    counts = result(other.in_use([many.name, "host 0", "host 5", "host 499"]))
    assert list(counts.values()) == [1198, 1, 2, 1]
    assert world.client.call("SCARD", f"{PREFIX}h:slots:{state.instance_id}") == 2 * 1198
    assert [entry.session for entry in result(other.sessions())] == sorted(
        (entry.session for entry in entries[1:-1]), key=lambda name: f"{entries[0].since:020.6f} {name}"
    )
    world.servers[state].is_away = True
    for number in range(1, 1199):
        state.give(f"slot{number}"), state.withdraw(entries[number].session)
    world.servers[state].is_away = False
    world.advance(1)
    assert result(other.in_use([many.name]))[many.name] == 0

"""The thread of a database: calls that hang, are cancelled or come while it is busy, and the clocks."""

import queue
import threading
import time
from functools import partial
from unittest import mock

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.state.factory import open_state
from esxiproxy.state.lease import LEASE, RENEWALS_PER_LEASE
from esxiproxy.state.sqlite import CALL_TIMEOUT, SqliteState
from tests.state.world import Held, SqliteWorld
from tests.support.outcome import result

ONE = SlotClaim("max_connections", "upstream 192.0.2.10", 1)


@pytest.fixture
def world(sqlite_world):
    return sqlite_world


def test_a_hanging_thread_fails_calls_after_the_timeout(world):
    world.pool = Held
    state = world.new()
    taking = state.take("a", [ONE])
    world.advance(CALL_TIMEOUT)
    with pytest.raises(StateUnavailable, match="did not answer within 3 s"):
        result(taking)


def held(world):
    world.pool = Held
    state = world.new()
    pool = state._pool
    pool.run()
    return state, pool


def assert_free(state, pool):
    asking = state.in_use([ONE.name])
    pool.run()
    assert result(asking) == {ONE.name: 0}


@pytest.mark.parametrize("name", ["reclaim", "reclaim_expired"])
def test_sessions_reclaimed_after_the_timeout_are_returned_by_the_next_call(world, name):
    state, pool = held(world)
    dead = SqliteWorld(world.path.parent).new()
    entry = world.entry(dead)
    result(dead.publish(entry))
    world.advance(2 * LEASE)
    pool.run()
    reclaim = partial(getattr(state, name), dead.instance_id if name == "reclaim" else 0.0)
    burying = reclaim()
    done, call, args = pool.calls.pop()
    outcome = call(*args)  # the reactor gets the outcome only after the timeout
    world.advance(CALL_TIMEOUT)
    with pytest.raises(StateUnavailable):
        result(burying)
    done(True, outcome)
    burying = reclaim()
    pool.run()
    assert list(result(burying)) == [entry]


def test_while_a_call_is_overdue_other_calls_fail_at_once(world):
    state, pool = held(world)
    first = state.take("a", [ONE])
    world.advance(CALL_TIMEOUT)
    with pytest.raises(StateUnavailable):
        result(first)
    queued = len(pool.calls)
    for number in range(100):
        with pytest.raises(StateUnavailable, match="did not answer within 3 s"):
            result(state.take(str(number), [ONE]))
        entry = world.entry(state)
        assert result(state.publish(entry)) is None
        assert result(state.withdraw(entry.session)) is None
    assert len(pool.calls) <= queued + 1
    pool.run()
    assert_free(state, pool)


def test_writes_that_are_added_while_the_thread_is_busy_form_one_batch(world):
    state, pool = held(world)
    entries = [world.entry(state) for _ in range(100)]
    for entry in entries:
        state.publish(entry)
    assert len(pool.calls) == 1
    ended = [state.withdraw(entry.session) for entry in entries[1:]]
    pool.run(1)
    assert len(pool.calls) == 1
    pool.run(1)
    assert [result(paid) for paid in ended] == [None] * 99
    listing = state.sessions()
    pool.run()
    assert list(result(listing)) == entries[:1]


def test_a_session_published_and_withdrawn_while_the_thread_is_busy_is_not_written(world):
    state, pool = held(world)
    stays = world.entry(state)
    state.publish(stays)
    for _ in range(1000):
        entry = world.entry(state)
        state.publish(entry), state.withdraw(entry.session)
    with mock.patch.object(state._store, "flush") as pay:
        pool.run(1)
        pool.run(1)
    assert pay.call_args_list == [mock.call({}, {})]


def test_a_take_that_is_cancelled_before_it_begins_is_not_made(world):
    state, pool = held(world)
    taking = state.take("a", [ONE])
    taking.cancel()
    with pytest.raises(CancelledError):
        result(taking)
    assert_free(state, pool)


def test_a_take_that_is_cancelled_while_it_runs_is_undone(world):
    state, pool = held(world)
    taking = state.take("a", [ONE])
    done, call, args = pool.calls.pop()
    outcome = call(*args)  # the reactor does not have the outcome yet
    taking.cancel()
    with pytest.raises(CancelledError):
        result(taking)
    done(True, outcome)
    pool.run()
    assert_free(state, pool)


def test_a_cancelled_stop_ends_the_thread(world):
    state, pool = held(world)
    stopping = state.stop()
    assert pool.running
    stopping.cancel()
    with pytest.raises(CancelledError):
        result(stopping)
    assert not pool.running


def test_a_cancelled_release_is_made(world):
    state, pool = held(world)
    taking = state.take("a", [ONE])
    pool.run()
    assert result(taking) is None
    giving = state.give("a")
    world.advance(CALL_TIMEOUT)
    assert result(giving) is None
    pool.run()
    assert_free(state, pool)


class Loop(Clock):
    """A reactor whose calls from other threads run in the test's thread."""

    def __init__(self):
        super().__init__()
        self.rightNow = time.time()
        self.brought = queue.Queue()

    def callFromThread(self, call, *args):
        self.brought.put((threading.get_ident(), call, args))

    def until(self, deferred):
        outcome = []
        deferred.addBoth(outcome.append)
        threads = set()
        while not outcome:
            thread, call, args = self.brought.get(timeout=20)
            threads.add(thread)
            call(*args)
        return outcome[0], threads


def test_the_reactor_thread_never_uses_the_database(tmp_path):
    loop = Loop()
    state = SqliteState(tmp_path / "state.sqlite", loop)
    try:
        loop.until(state.start(lambda command: None))
        taken, threads = loop.until(state.take("a", [ONE]))
        assert taken is None
        assert threads and threading.get_ident() not in threads
    finally:
        loop.until(state.stop())
    assert loop.getDelayedCalls() == []


@pytest.mark.parametrize("path", ["state.sqlite", None])
def test_renewals_polls_and_timeouts_run_on_the_given_clock(tmp_path, path):
    reactor, clock = Loop(), Clock()
    state = open_state(tmp_path / path if path else None, reactor, clock)
    try:
        started = state.start(lambda command: None)
        assert reactor.getDelayedCalls() == [] and clock.getDelayedCalls() != []
        reactor.until(started)
        renewed = []
        state._renewal._call = lambda: renewed.append(clock.seconds())
        reactor.advance(LEASE)
        assert renewed == []
        clock.advance(LEASE / RENEWALS_PER_LEASE)
        assert renewed == [LEASE / RENEWALS_PER_LEASE]
    finally:
        reactor.until(state.stop())
    assert clock.getDelayedCalls() == reactor.getDelayedCalls() == []

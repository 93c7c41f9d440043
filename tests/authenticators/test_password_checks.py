"""Checks of passwords by `htpasswd`: the slow-down, checks at the same time, and the cache."""

from dataclasses import replace

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from esxiproxy.authenticators.htpasswd import Htpasswd
from esxiproxy.authenticators.login_throttle import MAX_ALONE, LoginThrottle
from esxiproxy.authenticators.password_checks import MAX_CACHED
from esxiproxy.core.errors import LimitReached, StateUnavailable
from tests.authenticators.world import (
    ALICE,
    basic,
    line,
    login,
    refused,
    request,
    started,
)
from tests.support.logs import process_log
from tests.support.outcome import result

# The slow-down


def test_a_network_with_failures_has_to_wait_and_no_password_is_hashed(world, users):
    with process_log() as lines:
        for number in range(5):
            assert refused(users, password=f"wrong{number}").status_code == 401
    assert lines[-1].endswith(", which now has to wait 2 s") and "wait" not in lines[-2]
    before = world.calls
    error = refused(users, password="secret")
    assert (error.status_code, error.fields) == (429, ((b"Retry-After", b"2"),))
    assert world.calls == before
    assert refused(users, client="192.0.2.8").status_code == 401  # another network
    world.clock.advance(2)
    assert login(users) == ALICE


def test_the_time_to_wait_grows_to_a_minute(world, users):
    waits = []
    for number in range(14):
        assert refused(users, password=f"wrong{number}").status_code == 401
        if (error := refused(users, password="x")).status_code == 429:
            waits.append(int(dict(error.fields)[b"Retry-After"]))
            world.clock.advance(waits[-1])
    assert waits[:7] == [2, 4, 8, 16, 32, 60, 60] and max(waits) == 60
    world.clock.advance(60)
    for number in range(4):
        assert refused(users, password=f"wrong{number}").status_code == 401
    assert login(users) == ALICE


def test_failures_of_more_than_a_minute_ago_do_not_count(world, users):
    for number in range(40):
        assert refused(users, password=f"wrong{number}").status_code == 401
        world.clock.advance(20)


def test_processes_count_together(world, file, users):
    other = Htpasswd(file, world.context, time_of_day=world.time_of_day)
    for number in range(5):
        assert refused((users, other)[number % 2], password=f"wrong{number}").status_code == 401
    assert [refused(each).status_code for each in (users, other)] == [429, 429]


def test_a_client_with_a_good_password_does_not_reset_the_count(users):
    for number in range(5):
        login(users, "j\u00fcrgen", "p\u00e4ss:w\u00f6rd")
        refused(users, password=f"wrong{number}")
    assert refused(users).status_code == 429
    assert login(users, "j\u00fcrgen", "p\u00e4ss:w\u00f6rd").name == "j\u00fcrgen"  # from the cache


def test_failures_of_processes_at_the_same_moment_are_all_counted(world, monkeypatch):
    """Between the read and the write of one, others have counted theirs."""
    throttles = [LoginThrottle(world.state, "logins", world.time_of_day) for _ in range(10)]
    get, read = world.state.get, []

    def get_late(*words):
        found = get(*words)
        if len(read) >= len(throttles):
            return found
        read.append(waiting := Deferred())
        return waiting.addCallback(lambda _: found.result)

    monkeypatch.setattr(world.state, "get", get_late)
    counting = [Deferred.fromCoroutine(throttle.failed("192.0.2.7/32")) for throttle in throttles]
    assert len(read) == len(throttles), "all have read the same"
    for waiting in read:
        waiting.callback(None)
    waits = [each.result for each in counting]
    assert waits[:5] == [0, 0, 0, 0, 2] and waits[5:] == [4, 8, 16, 32, 60]


def test_a_failure_is_counted_also_if_others_are_always_faster(world, monkeypatch):
    throttle = LoginThrottle(world.state, "logins", world.time_of_day)
    put, refused_puts = world.state.put, []

    def put_late(*words):
        if len(words) == 4:
            return put(*words)
        refused_puts.append(words)
        return succeed(False)

    monkeypatch.setattr(world.state, "put", put_late)
    assert Deferred.fromCoroutine(throttle.failed("192.0.2.7/32")).result == 0
    assert len(refused_puts) == 16
    assert world.state.get("logins", "192.0.2.7/32").result.split()[0] == "1"


@pytest.mark.parametrize("value", ["", "1", "a b c", "9 nan nan", "9 1 2 3", "9" * 5000 + " 1 2"])
def test_a_value_of_another_version_counts_as_none(world, users, value):
    world.state.put("authenticator users failed logins", "192.0.2.7/32", value, 1e12)
    assert refused(users).status_code == 401


def test_a_clock_that_was_set_back_costs_a_minute_at_most(world, users):
    for number in range(5):
        refused(users, password=f"wrong{number}")
    later, world.memory.time_of_day = world.memory.time_of_day, lambda: 0.0
    users._checks._throttle._time_of_day = world.memory.time_of_day
    assert dict(refused(users).fields)[b"Retry-After"] == b"60"
    world.memory.time_of_day = later


def test_without_the_state_no_password_is_hashed(world, users, monkeypatch):
    monkeypatch.setattr(world.state, "get", lambda *_: fail(StateUnavailable("no database")))
    with pytest.raises(StateUnavailable):
        login(users)
    assert world.calls == 0


def test_a_failure_is_logged_also_if_it_cannot_be_counted(world, users, monkeypatch):
    monkeypatch.setattr(world.state, "put", lambda *_: fail(StateUnavailable("no database")))
    with process_log() as lines, pytest.raises(StateUnavailable):
        login(users, password="wrong")
    assert lines == ["[authenticator users] failed login of 'alice' from 192.0.2.7/32"]


def test_a_process_counts_alone_while_a_state_that_admits_is_away(world, users, monkeypatch):
    with monkeypatch.context() as away:
        away.setattr(world.state, "admits_when_down", True, raising=False)
        for call in ("get", "put"):
            away.setattr(world.state, call, lambda *_: fail(StateUnavailable("no Redis")))
        assert login(users) == ALICE
        for number in range(5):
            assert refused(users, password=f"wrong{number}").status_code == 401
        assert dict(refused(users, password="other").fields)[b"Retry-After"] == b"2"
        for number in range(MAX_ALONE + 1):
            client = f"10.{number >> 8}.{number & 255}.1"
            assert Deferred.fromCoroutine(users._checks._throttle.failed(client)).called
        assert len(users._checks._throttle._alone) == MAX_ALONE, "the memory is bounded"
    assert refused(users, password="wrong").status_code == 401, "the state counts again"


# Checks at the same time


def test_equal_credentials_are_checked_once(world, users):
    world.hold = True
    logins = [started(users.authenticate(request(basic("alice", "secret")))) for _ in range(60)]
    assert len(world.held) == 1
    world.run()
    assert logins == [[ALICE]] * 60


def test_a_network_has_two_checks_at_a_time(world, users):
    world.hold = True
    logins = [started(users.authenticate(request(basic("alice", f"wrong{number}")))) for number in range(20)]
    other = started(users.authenticate(request(basic("alice", "secret"), client="192.0.2.8")))
    assert len(world.held) == 3
    while world.held:
        assert len(world.held) <= 3
        world.run()
    assert other == [ALICE]
    codes = [outcome[0].value.status_code for outcome in logins]
    assert codes[:5] == [401] * 5 and codes.count(429) >= 14
    assert world.calls <= 7
    assert not users._checks._turns and not users._checks._checks


def test_the_checks_of_a_network_that_wait_are_bounded(world, users):
    world.hold = True
    logins = [started(users.authenticate(request(basic("alice", f"wrong{number}")))) for number in range(50)]
    assert [outcome[0].value.status_code for outcome in logins if outcome] == [429] * 16


def test_a_client_that_disconnects_does_not_avoid_the_count(world, users):
    world.hold = True
    for number in range(5):
        waiting = Deferred.fromCoroutine(users.authenticate(request(basic("alice", f"wrong{number}"))))
        outcome = []
        waiting.addBoth(outcome.append)
        waiting.cancel()
        assert isinstance(outcome[0], Failure) and outcome[0].check(CancelledError)
        world.run()
    world.hold = False
    assert world.calls == 5 and refused(users, password="secret").status_code == 429


def test_a_check_that_waits_ends_with_its_client(world, users):
    world.hold = True
    calls = [
        Deferred.fromCoroutine(users.authenticate(request(basic("alice", f"wrong{number}"))))
        for number in range(6)
    ]
    for call in calls:
        call.addErrback(lambda failure: failure.trap(CancelledError))
        call.cancel()
    world.run()
    assert (world.calls, world.held) == (2, [])
    assert not users._checks._turns and not users._checks._checks


def test_one_of_two_equal_clients_can_disconnect(world, users):
    world.hold = True
    first = Deferred.fromCoroutine(users.authenticate(request(basic("alice", "secret"))))
    first.addErrback(lambda failure: failure.trap(CancelledError))
    second = started(users.authenticate(request(basic("alice", "secret"))))
    first.cancel()
    world.run()
    assert second == [ALICE]


def failing(world, file, error):
    """Return an authenticator that has read its file, and whose next call of a thread fails."""
    errors = []
    in_thread = world.context.in_thread
    context = replace(
        world.context, in_thread=lambda *call: fail(errors.pop()) if errors else in_thread(*call)
    )
    users = Htpasswd(file, context, time_of_day=world.time_of_day)
    result(users.ready())
    errors.append(error)
    return users


def test_threads_that_are_busy_refuse_the_login(world, file):
    users = failing(world, file, LimitReached("64 calls wait"))
    with pytest.raises(LimitReached):
        login(users)
    assert not world.memory.items  # no failure of the client


def test_an_error_of_a_library_is_logged_and_raised(world, file):
    users = failing(world, file, MemoryError("no memory"))
    with process_log() as lines, pytest.raises(MemoryError):
        login(users)
    assert lines == ["[authenticator users] cannot check a password"]


# The cache


def test_a_good_answer_is_kept_for_a_minute(world, users):
    login(users)
    login(users, client="192.0.2.8")
    assert world.calls == 1
    world.clock.advance(60)
    login(users)
    assert world.calls == 2


def test_no_credentials_are_kept(users):
    login(users)
    refused(users, password="hunter2")
    kept = repr(vars(users._checks)) + repr(users._opening)
    assert "secret" not in kept and "hunter2" not in kept and "$apr1$" not in kept


def test_credentials_of_equal_texts_are_different(world, users, file):
    world.change(file, line("a", "bc") + line("ab", "x"))
    assert login(users, "a", "bc").name == "a"
    assert refused(users, "ab", "c").status_code == 401


def test_the_cache_is_bounded(world, users, file):
    world.change(file, "".join(f"u{number}:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n" for number in range(1100)))
    for number in range(1100):
        login(users, f"u{number}", "secret")
    assert len(users._checks._good) == MAX_CACHED
    login(users, "u1099", "secret")
    assert world.calls == 1101  # with the reading of the file

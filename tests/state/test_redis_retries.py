"""The attempts to connect to Redis and to its Sentinels, over a fake clock and endpoints that fail."""

from itertools import pairwise

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from esxiproxy.core.config.state_url import RedisAddress, SentinelService
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state import redis_connection, redis_sentinel
from esxiproxy.state.redis_connection import CALL_TIMEOUT, RedisConnection
from esxiproxy.state.redis_sentinel import ANSWER_TIMEOUT, WATCH_INTERVAL
from tests.support.logs import process_log
from tests.support.outcome import result

DIRECT = RedisAddress("192.0.2.1")
SENTINELS = tuple(("192.0.2.9", port) for port in (1, 2, 3, 4))
WITH_SENTINELS = RedisAddress("", 0, service=SentinelService("lab", SENTINELS))


class Endpoints:
    """Endpoints that refuse connections, or hang.  ``asked`` has the time and the port of each attempt."""

    def __init__(self, clock):
        self._clock = clock
        self.hangs = False
        self.connection = None
        self.asked = []

    def __call__(self, address, host, port, reactor):
        self._port = port
        return self

    def connect(self, factory):
        self.asked.append((self._clock.seconds(), self._port))
        if self.connection is not None:  # it is made at the moment at which the attempt is cancelled
            return Deferred(lambda made: made.callback(self.connection))
        if self.hangs:
            return Deferred(lambda made: made.errback(ConnectingCancelledError(None)))
        return fail(ConnectionRefusedError("refused"))


@pytest.fixture
def endpoints(monkeypatch):
    found = Endpoints(Clock())
    for module in (redis_connection, redis_sentinel):
        monkeypatch.setattr(module, "endpoint_of", found)
    return found


def started(endpoints, address):
    connection = RedisConnection(address, None, endpoints._clock)
    connection.start()
    return connection


def run(endpoints, seconds):
    for _ in range(int(seconds * 100)):
        endpoints._clock.advance(0.01)


@pytest.mark.parametrize(
    ("address", "longest", "each"), [(DIRECT, 1.0, 1), (WITH_SENTINELS, 0.5, len(SENTINELS))]
)
def test_attempts_are_repeated_with_jitter_and_at_most_so_far_apart(endpoints, address, longest, each):
    connection = started(endpoints, address)
    run(endpoints, 60)
    times = [at for at, _port in endpoints.asked[::each]]
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= longest + 0.02 and len({round(gap, 3) for gap in gaps[10:]}) > 5
    assert min(gaps[10:]) >= longest / 2 - 0.02, "and not much more often"
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        result(connection.connected())
    connection.stop()
    assert endpoints._clock.getDelayedCalls() == []


def test_an_attempt_that_hangs_ends_in_time(endpoints):
    endpoints.hangs = True
    connection = started(endpoints, DIRECT)
    waiting = connection.connected()
    run(endpoints, CALL_TIMEOUT - 0.1)
    assert not waiting.called
    run(endpoints, 0.2)
    with pytest.raises(StateUnavailable, match="did not answer within 2 s"):
        result(waiting)
    connection.stop()


def test_sentinels_that_hang_are_asked_at_the_same_time(endpoints):
    endpoints.hangs = True
    connection = started(endpoints, WITH_SENTINELS)
    waiting = connection.connected()
    assert endpoints.asked == [(0, 1), (0, 2), (0, 3), (0, 4)]
    run(endpoints, ANSWER_TIMEOUT + 0.02)
    with pytest.raises(StateUnavailable, match=":4 did not answer within"):
        result(waiting)
    run(endpoints, 2)
    assert {port for _at, port in endpoints.asked[4:]} == {1, 2, 3, 4}, "and none is left out"
    connection.stop()
    asked = len(endpoints.asked)
    run(endpoints, 5)
    assert len(endpoints.asked) == asked and endpoints._clock.getDelayedCalls() == []


def test_an_attempt_that_is_stopped_leaves_no_question(endpoints):
    endpoints.hangs = True
    connection = started(endpoints, WITH_SENTINELS)
    run(endpoints, ANSWER_TIMEOUT - 0.05)
    connection.stop()
    assert len(endpoints.asked) == 4 and endpoints._clock.getDelayedCalls() == []


class Made:
    """A connection that gives the same reply to each command."""

    def __init__(self):
        self.abandoned = []

    def call(self, *words):
        return succeed(b"OK")

    def on_lost(self, call):
        pass

    def abandon(self, text):
        self.abandoned.append(text)


@pytest.mark.parametrize(
    ("is_stopped", "text"),
    [(True, "the connection was not completed"), (False, "the connection was not made in time")],
)
def test_a_connection_that_is_made_when_its_attempt_has_ended_is_closed(endpoints, is_stopped, text):
    endpoints.connection = made = Made()
    connection = started(endpoints, DIRECT)
    if is_stopped:
        connection.stop()
    else:
        run(endpoints, CALL_TIMEOUT + 0.01)
        endpoints.connection = None
        connection.stop()
    assert made.abandoned == [text]
    with pytest.raises(StateUnavailable):
        result(connection.connected())
    assert endpoints._clock.getDelayedCalls() == []


def test_a_file_that_is_missing_for_a_moment_is_no_bug(tmp_path):
    clock, moved = MemoryReactorClock(), []
    service = SentinelService("lab", SENTINELS)
    address = RedisAddress("", 0, secure=True, ca=tmp_path / "none", service=service)
    sentinels = redis_sentinel.Sentinels(address, service, clock, clock)
    with process_log() as lines:
        sentinels.start(lambda: ("192.0.2.1", 6379), moved.append)
        clock.pump([WATCH_INTERVAL] * 5)
        sentinels.stop()
    (line,) = lines
    assert f"state_ca: {tmp_path / 'none'}: No such file" in line and "the primary continues" in line
    assert moved == [] and clock.getDelayedCalls() == []


def test_failures_by_turns_are_logged_once_a_minute(endpoints):
    """A server whose machine is down hangs, and is unreachable while the kernel remembers that."""
    with process_log() as lines:
        connection = started(endpoints, DIRECT)
        for _ in range(90):
            endpoints.hangs = not endpoints.hangs
            run(endpoints, 2)
        connection.stop()
    told = [line for line in lines if "shared state redis://192.0.2.1:6379/0: " in line]
    hung = [line for line in told if "did not answer within 2 s" in line]
    refused = [line for line in told if "ConnectionRefusedError" in line]
    assert len(told) == len(hung) + len(refused)
    assert 3 <= len(hung) <= 4 and 3 <= len(refused) <= 4, told

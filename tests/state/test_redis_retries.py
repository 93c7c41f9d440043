"""The attempts to connect to Redis and to its Sentinels, over a fake clock and endpoints that fail."""

from itertools import pairwise

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from esxiproxy.core.config.state_url import RedisAddress, SentinelService
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state import redis_connection, redis_sentinel
from esxiproxy.state.redis_connection import CALL_TIMEOUT, FAILOVER_TIMEOUT, RedisConnection
from esxiproxy.state.redis_sentinel import ANSWER_TIMEOUT
from tests.support.outcome import result

DIRECT = RedisAddress("192.0.2.1")
SENTINELS = tuple(("192.0.2.9", port) for port in (1, 2, 3, 4))
WITH_SENTINELS = RedisAddress("", 0, service=SentinelService("lab", SENTINELS))


class Endpoints:
    """Endpoints that refuse connections, or hang; ``asked`` has the time and the port of each attempt."""

    def __init__(self, clock):
        self._clock = clock
        self.hangs = False
        self.asked = []

    def __call__(self, address, host, port, reactor):
        self._port = port
        return self

    def connect(self, factory):
        self.asked.append((self._clock.seconds(), self._port))
        return Deferred() if self.hangs else fail(ConnectionRefusedError("refused"))


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


def test_sentinels_that_hang_are_asked_in_turn_also_by_the_next_attempt(endpoints):
    endpoints.hangs = True
    connection = started(endpoints, WITH_SENTINELS)
    waiting = connection.connected()
    run(endpoints, FAILOVER_TIMEOUT + 0.1)
    with pytest.raises(StateUnavailable, match="did not answer within 1 s"):
        result(waiting)
    run(endpoints, 2)
    ports = [port for _at, port in endpoints.asked]
    assert ports[:2] == [1, 2] and set(ports) == {1, 2, 3, 4}, "none is left out"
    first, second = (at for at, _port in endpoints.asked[:2])
    assert second - first == pytest.approx(ANSWER_TIMEOUT, abs=0.02)
    connection.stop()
    asked = len(endpoints.asked)
    run(endpoints, 5)
    assert len(endpoints.asked) == asked and endpoints._clock.getDelayedCalls() == []

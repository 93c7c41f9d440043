"""The timer of idle connections: when it ends one, and that no use cancels it or starts another one."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from esxiproxy.net.sockets.idle_timer import IdleTimer


class Connection:
    """A connection that may be idle for 60 seconds, on a fake clock."""

    def __init__(self):
        self.clock = Clock()
        self.timer = IdleTimer(self.clock, 60.0)
        self.ends = []

    def rest(self):
        self.timer.start(lambda: self.ends.append(self.clock.seconds()))

    def use_for(self, seconds):
        self.timer.stop()
        self.clock.advance(seconds)
        self.rest()


@pytest.fixture
def connection():
    return Connection()


def test_it_ends_an_idle_connection_once(connection):
    connection.rest()
    connection.clock.advance(59.0)
    assert connection.ends == []
    connection.clock.advance(1.0)
    assert connection.ends == [60.0]
    connection.clock.advance(600.0)
    assert connection.ends == [60.0]
    assert not connection.clock.getDelayedCalls()


def test_the_time_counts_from_the_last_use(connection):
    connection.rest()
    connection.clock.advance(40.0)
    connection.use_for(0.0)
    connection.clock.pump([20.0, 39.0])
    assert connection.ends == []
    connection.clock.advance(1.0)
    assert connection.ends == [100.0]


def test_uses_share_one_timer(connection):
    connection.rest()
    (timer,) = connection.clock.getDelayedCalls()
    for _ in range(100):
        connection.use_for(0.125)
    assert connection.clock.getDelayedCalls() == [timer]


def test_a_long_use_is_not_idle(connection):
    connection.rest()
    connection.use_for(1000.0)
    connection.clock.advance(59.0)
    assert connection.ends == []
    connection.clock.advance(1.0)
    assert connection.ends == [1060.0]


def test_a_cancelled_timer_leaves_nothing(connection):
    connection.rest()
    connection.timer.cancel()
    connection.timer.cancel()
    assert not connection.clock.getDelayedCalls()
    connection.clock.advance(60.0)
    assert connection.ends == []

"""Lingering connections, and the drain of a proxy that has such connections."""

from twisted.internet.task import Clock

from esxiproxy.net.sessions import Sessions
from esxiproxy.net.sockets.linger import MIN_RATE, Linger


class Slow:
    """A transport whose unsent bytes are set by the test."""

    def __init__(self, unsent):
        self.unsent_bytes = unsent
        self.aborted = self.half_closed = False

    def loseWriteConnection(self):
        self.half_closed = True

    def abortConnection(self):
        self.aborted = True


def lingering(unsent):
    clock, transport = Clock(), Slow(unsent)
    return clock, transport, Linger(transport, clock, 5.0)


def test_a_peer_that_takes_its_answer_gets_all_of_it():
    clock, transport, linger = lingering(600_000)
    assert transport.half_closed
    for _ in range(9):
        transport.unsent_bytes -= 64_000
        clock.advance(5)
        assert not transport.aborted and linger.active()
    transport.unsent_bytes = 0
    clock.advance(5)
    assert transport.aborted and not clock.getDelayedCalls()


def test_a_peer_that_takes_next_to_nothing_is_cut():
    clock, transport, _linger = lingering(600_000)
    transport.unsent_bytes -= int(MIN_RATE * 5) - 1
    clock.advance(5)
    assert transport.aborted and not clock.getDelayedCalls()


def test_a_linger_can_be_cancelled():
    clock, transport, linger = lingering(0)
    linger.cancel()
    assert not linger.active() and not clock.getDelayedCalls() and not transport.aborted


def test_a_proxy_is_empty_when_lingering_connections_have_ended():
    sessions, connection = Sessions([], Clock()), object()
    sessions.flushing.add(connection)
    empty = sessions.when_empty()
    assert not empty.called
    sessions.flushed(object())
    assert not empty.called
    sessions.flushed(connection)
    assert empty.called

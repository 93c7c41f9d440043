"""The reactor that makes our streams, and the ring that serves them."""

from __future__ import annotations

import select
import socket

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorSSL, IReactorTCP, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from esxiproxy.net.transport.outbox import Outbox
from esxiproxy.net.transport.reactor import StreamReactor, streaming
from esxiproxy.net.transport.ring import TURN, Ring
from tests.net.transport.loop import Peer


def test_it_is_all_that_the_reactor_is():
    core = EPollReactor()
    reactor = streaming(core)
    assert isinstance(reactor, StreamReactor)
    for interface in (IReactorTCP, IReactorSSL, IReactorTime, IReactorPluggableNameResolver):
        assert interface.providedBy(reactor)
    assert reactor.nameResolver is core.nameResolver
    assert streaming(reactor) is reactor


def test_without_epoll_the_reactor_stays_as_it_is(monkeypatch):
    core = EPollReactor()
    monkeypatch.delattr(select, "epoll")
    assert streaming(core) is core


def test_what_has_no_descriptors_stays_as_it_is():
    for reactor in (MemoryReactor(), Clock()):
        assert streaming(reactor) is reactor


class Greedy:
    """A stream that leaves what is there for the next time."""

    def __init__(self, ring):
        self.near, self.far = socket.socketpair()
        self.fileno = self.near.fileno
        self.served = 0
        self.far.send(b"x")
        ring.addReader(self)

    def doRead(self):
        self.served += 1


def test_streams_that_are_always_ready_are_served_in_turns_and_leave_the_reactor_its_own():
    core = EPollReactor()
    ring = Ring(core)
    streams = [Greedy(ring) for _ in range(4)]
    ring.doRead()
    assert [stream.served for stream in streams] == [TURN // 4] * 4
    for stream in streams:
        ring.removeReader(stream)
        stream.near.close()
        stream.far.close()
    core.removeAll()


def test_a_stream_paused_by_another_in_the_same_batch_reads_nothing(ours):
    """Both were ready when the ring looked; the first to be served pauses the other, as a relay does."""
    left, right = Peer(), Peer()
    a, _ = ours.pair(server=left)
    b, _ = ours.pair(server=right)
    left.on_octets = lambda *_: right.transport.pauseProducing()
    right.on_octets = lambda *_: left.transport.pauseProducing()
    a.transport.write(b"x")
    b.transport.write(b"y")
    ours.settle()
    assert len(left.got) + len(right.got) == 1


def test_a_front_stays_until_it_is_taken():
    outbox = Outbox()
    outbox.put(b"one")
    front = outbox.front()
    outbox.put(b"two")
    assert outbox.front() is front and outbox.size == 6
    outbox.taken(1)
    assert bytes(outbox.front()) == b"ne"
    outbox.taken(2)
    assert bytes(outbox.front()) == b"two"
    outbox.taken(3)
    assert outbox.size == 0


class Heir:
    """Takes the descriptor of another one over."""

    def __init__(self, before):
        self.fileno = before.fileno
        self.served = 0

    def doRead(self):
        self.served += 1


def test_a_descriptor_is_served_to_whoever_asked_last_and_the_one_before_has_no_say_in_it():
    core = EPollReactor()
    ring = Ring(core)
    before = Greedy(ring)
    heir = Heir(before)
    ring.addReader(heir)
    ring.removeReader(before)
    ring.doRead()
    assert heir.served == TURN and not before.served
    ring.removeReader(heir)
    ring.doRead()
    assert heir.served == TURN
    before.near.close()
    before.far.close()
    core.removeAll()


def test_whoever_gives_its_descriptor_away_while_it_is_read_is_not_asked_to_write_any_more():
    core = EPollReactor()
    ring = Ring(core)
    before, written = Greedy(ring), []
    ring.addWriter(before)
    before.doWrite = lambda: written.append("before")
    heir = Heir(before)
    heir.doWrite = lambda: (written.append("heir"), ring.removeWriter(heir))[0]
    before.doRead = lambda: (ring.addReader(heir), ring.addWriter(heir))[0]
    ring.doRead()
    assert written == ["heir"]
    ring.removeReader(heir)
    before.near.close()
    before.far.close()
    core.removeAll()

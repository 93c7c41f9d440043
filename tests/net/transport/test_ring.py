"""The ring serves the streams that are ready, with its compiled part and without it."""

from __future__ import annotations

import os
import socket
import time

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionLost

from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.net.transport import fast_path as passage
from esxiproxy.net.transport.epoll_loop import TURNS, EpollLoop
from esxiproxy.net.transport.write_buffer import WriteBuffer
from tests.net.transport.loop import Peer
from tests.packages import NO_COMPILER
from tests.wsclient import frame


@pytest.fixture(params=["compiled", "python"])
def way(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setenv("ESXIPROXY_TRANSPORTS", "python")
    elif passage.compiled() is None:
        pytest.skip(NO_COMPILER)
    return request.param


@pytest.fixture
def ring(way):
    core = EPollReactor()
    ring = EpollLoop(core)
    ring.streams = []
    yield ring
    for stream in ring.streams:
        ring.removeReader(stream)
        ring.removeWriter(stream)
        stream.near.close()
        stream.far.close()
    core.removeAll()
    core._poller.close()


class Greedy:
    """A stream that leaves what is there for the next time."""

    def __init__(self, ring):
        self.near, self.far = socket.socketpair()
        self.fileno = self.near.fileno
        self.served = 0
        self.far.send(b"x")
        ring.addReader(self)
        ring.streams.append(self)

    def doRead(self):
        self.served += 1


class Heir:
    """Takes the descriptor of another one over."""

    def __init__(self, before):
        self.fileno = before.fileno
        self.served = 0

    def doRead(self):
        self.served += 1


def test_streams_that_are_always_ready_are_served_in_turns_and_leave_the_reactor_its_own(ring):
    streams = [Greedy(ring) for _ in range(4)]
    ring.doRead()
    assert [stream.served for stream in streams] == [TURNS // 4] * 4


def test_a_stream_paused_by_another_in_the_same_batch_reads_nothing(way, ours):
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


def test_a_descriptor_is_served_to_whoever_asked_last_and_the_one_before_has_no_say_in_it(ring):
    before = Greedy(ring)
    heir = Heir(before)
    ring.addReader(heir)
    ring.removeReader(before)
    ring.doRead()
    assert heir.served == TURNS and not before.served
    ring.removeReader(heir)
    ring.doRead()
    assert heir.served == TURNS


def test_whoever_gives_its_descriptor_away_while_it_is_read_is_not_asked_to_write_any_more(ring):
    before, written = Greedy(ring), []
    ring.addWriter(before)
    before.doWrite = lambda: written.append("before")
    heir = Heir(before)
    heir.doWrite = lambda: (written.append("heir"), ring.removeWriter(heir))[0]
    before.doRead = lambda: (ring.addReader(heir), ring.addWriter(heir))[0]
    ring.doRead()
    assert written == ["heir"]
    ring.removeReader(heir)


def test_a_descriptor_that_is_another_s_since_is_not_served_for_the_one_before(ring):
    """Closed and made anew within a turn: what was ready was the old one."""
    one, two = Greedy(ring), Greedy(ring)
    made = []

    def replace(other):
        number = other.fileno()
        ring.removeReader(other)
        other.near.close()
        fresh = Greedy(ring)
        if fresh.fileno() != number:
            ring.removeReader(fresh)
            os.dup2(fresh.near.fileno(), number)
            fresh.near.close()
            fresh.near = socket.socket(fileno=number)
            fresh.fileno = fresh.near.fileno
            ring.addReader(fresh)
        made.append(fresh)

    one.doRead = lambda: replace(two) if not made else None
    two.doRead = lambda: replace(one) if not made else None
    ring._ready()
    (fresh,) = made
    assert fresh.served == 0
    ring._ready()
    assert fresh.served == 1


def test_a_stream_may_stop_the_reactor_which_is_the_end_of_all_of_them(ring):
    one, other = Greedy(ring), Greedy(ring)
    lost = []
    for each in (one, other):
        each.connectionLost = lost.append
        each.doRead = ring._reactor.disconnectAll
    ring.doRead()
    assert len(lost) == 2 and ring.fileno() == -1
    ring.addReader(other)
    assert ring.fileno() >= 0


class Passing(Greedy):
    """A stream with a passage to itself, and its own leg."""

    __slots__ = (
        *("current_frame", "data", "heard", "held", "octets", "sink", "walker"),
        *("_write_buffer", "_streaming", "connected"),
    )
    FAST_PATH_BLOCKERS = ()

    def __init__(self, ring, number=None):
        super().__init__(ring)
        self.octets, self.heard, self.data, self.current_frame, self.held = 0, False, b"", None, {}
        self._write_buffer, self._streaming, self.connected = WriteBuffer(), True, True
        self.walker, self.sink, self.lost, self.left = FrameWalker(False), self, None, None
        end = self.fileno() if number is None else number, 0
        self._fast_path = passage._compiled.Passage(
            self, self, self.walker, self, self, None, end, end, False, 1 << 20
        )

    def doRead(self, came=None):
        self.served += 1
        self.left = came

    def connectionLost(self, reason):
        self.lost = reason.value


compiled = pytest.mark.skipif(passage.compiled() is None, reason=NO_COMPILER)


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_where_all_that_comes_is_for_passages_the_next_is_waited_for_and_then_nobody_is_left(ring):
    """A message and its answer: the peer has it ready before the reactor would have had its turn."""
    stream = Passing(ring)
    stream.near.recv(1)
    stream.far.send(frame(2, b"one"))
    assert ring._ready() == 0
    assert stream.octets == len(frame(2, b"one")) and not stream.served
    stream.far.send(frame(9, b"no passage takes a ping"))
    assert ring._ready() == 1 and stream.served == 1


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_what_is_quick_waits_for_one_that_is_slow_and_not_for_all_of_them(ring):
    passing, slow = Passing(ring), [Greedy(ring) for _ in range(4)]
    passing.near.recv(1)
    octets = frame(2, b"a key")
    passed = []

    def read():
        passed.append(passing.octets)
        passing.far.send(octets)
        end = time.perf_counter() + 0.0002  # it takes its time
        while time.perf_counter() < end:
            pass

    for stream in slow:
        stream.doRead = read
    passing.far.send(octets)
    ring._ready()
    assert passed == [count * len(octets) for count in (1, 2, 3, 4)]


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_passages_that_always_have_something_leave_the_reactor_its_turn(ring):
    """A frame that goes to and fro for ever: each end of a connection sends back what comes."""
    one = Passing(ring)
    one.near.recv(1)
    other = Passing(ring, number=one.far.fileno())
    ring.removeReader(other)
    other.fileno = one.far.fileno
    ring.addReader(other)
    octets = frame(2, b"to and fro")
    one.far.send(octets)
    ring.doRead()
    assert one.octets + other.octets >= TURNS * len(octets)


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_what_a_passage_leaves_is_the_stream_s_to_read(ring):
    stream = Passing(ring)
    ring._ready()
    assert stream.left == b"x" and stream.lost is None


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_an_error_of_the_socket_under_a_passage_is_a_lost_connection(ring):
    stream = Passing(ring, number=-1)
    ring._ready()
    assert isinstance(stream.lost, ConnectionLost) and not stream.served


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_what_else_a_passage_raises_ends_its_stream_alone(ring):
    stream, other = Passing(ring), Greedy(ring)
    stream.walker.left = "none"
    ring._ready()
    assert isinstance(stream.lost, TypeError) and not stream.served and other.served == 1


@compiled
def test_the_compiled_part_takes_nothing_else():
    serve = passage._compiled.serve
    for arguments in ((), (0, [], 0, print), ("0", {}, 0, print)):
        with pytest.raises(TypeError):
            serve(*arguments)
    with pytest.raises(OSError):
        serve(-1, {}, 0, print)

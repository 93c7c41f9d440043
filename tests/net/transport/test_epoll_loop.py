"""Tests of the epoll loop, with the compiled part and without it."""

from __future__ import annotations

import os
import select
import socket
import time

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import capturedLogs

from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.net.transport import fast_path
from esxiproxy.net.transport.constants import STREAMS_PER_TURN
from esxiproxy.net.transport.epoll_loop import EpollLoop
from esxiproxy.net.transport.write_buffer import WriteBuffer
from tests.net.transport.loop import Peer
from tests.support.packages import NO_COMPILER
from tests.support.websocket import frame


@pytest.fixture(params=["compiled", "python"])
def way(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setenv("ESXIPROXY_TRANSPORTS", "python")
    elif fast_path.compiled() is None:
        pytest.skip(NO_COMPILER)
    return request.param


@pytest.fixture
def loop(way):
    core = EPollReactor()
    loop = EpollLoop(core)
    loop.streams = []
    yield loop
    for stream in loop.streams:
        loop.removeReader(stream)
        loop.removeWriter(stream)
        stream.near.close()
        stream.far.close()
    core.removeAll()
    core._poller.close()


class Greedy:
    """A stream that never reads its socket, and so is always ready."""

    def __init__(self, loop):
        self.near, self.far = socket.socketpair()
        self.fileno = self.near.fileno
        self.served = 0
        self.far.send(b"x")
        loop.addReader(self)
        loop.streams.append(self)

    def doRead(self):
        self.served += 1


class Heir:
    """A stream that takes over the descriptor of another stream."""

    def __init__(self, before):
        self.fileno = before.fileno
        self.served = 0

    def doRead(self):
        self.served += 1


def test_streams_that_are_always_ready_are_served_in_turns_and_leave_the_reactor_its_own(loop):
    streams = [Greedy(loop) for _ in range(4)]
    loop.doRead()
    assert [stream.served for stream in streams] == [STREAMS_PER_TURN // 4] * 4


def test_a_stream_paused_by_another_in_the_same_batch_reads_nothing(way, ours):
    """Both streams are ready in one batch; the first one pauses the other, as a relay does."""
    left, right = Peer(), Peer()
    a, _ = ours.pair(server=left)
    b, _ = ours.pair(server=right)
    left.on_octets = lambda *_: right.transport.pauseProducing()
    right.on_octets = lambda *_: left.transport.pauseProducing()
    a.transport.write(b"x")
    b.transport.write(b"y")
    ours.until(lambda: left.got or right.got)
    ours.settle()
    assert len(left.got) + len(right.got) == 1


def test_a_descriptor_belongs_to_the_last_stream_that_registered_it(loop):
    before = Greedy(loop)
    heir = Heir(before)
    loop.addReader(heir)
    loop.removeReader(before)
    loop.doRead()
    assert heir.served == STREAMS_PER_TURN and not before.served
    loop.removeReader(heir)
    loop.doRead()
    assert heir.served == STREAMS_PER_TURN


def test_a_stream_that_hands_its_descriptor_over_in_a_read_is_not_written(loop):
    before, written = Greedy(loop), []
    loop.addWriter(before)
    before.doWrite = lambda: written.append("before")
    heir = Heir(before)
    heir.doWrite = lambda: (written.append("heir"), loop.removeWriter(heir))[0]
    before.doRead = lambda: (loop.addReader(heir), loop.addWriter(heir))[0]
    loop.doRead()
    assert written == ["heir"]
    loop.removeReader(heir)


def test_an_event_of_a_closed_stream_is_not_served_by_a_new_one_with_its_descriptor(loop):
    """A descriptor is closed and reused within a turn; the event belongs to the old stream."""
    one, two = Greedy(loop), Greedy(loop)
    made = []

    def replace(other):
        number = other.fileno()
        loop.removeReader(other)
        other.near.close()
        fresh = Greedy(loop)
        if fresh.fileno() != number:
            loop.removeReader(fresh)
            os.dup2(fresh.near.fileno(), number)
            fresh.near.close()
            fresh.near = socket.socket(fileno=number)
            fresh.fileno = fresh.near.fileno
            loop.addReader(fresh)
        made.append(fresh)

    one.doRead = lambda: replace(two) if not made else None
    two.doRead = lambda: replace(one) if not made else None
    loop._ready()
    (fresh,) = made
    assert fresh.served == 0
    loop._ready()
    assert fresh.served == 1


def test_a_stream_may_stop_the_reactor_which_is_the_end_of_all_of_them(loop):
    one, other = Greedy(loop), Greedy(loop)
    lost = []
    for each in (one, other):
        each.connectionLost = lost.append
        each.doRead = loop._reactor.disconnectAll
    loop.doRead()
    assert len(lost) == 2 and loop.fileno() == -1
    loop.addReader(other)
    assert loop.fileno() >= 0


class Passing(Greedy):
    """A stream with a fast path to itself, which is its own leg as well."""

    __slots__ = (
        *("current_frame", "data", "heard", "held", "octets", "sink", "walker"),
        *("_write_buffer", "_streaming", "connected"),
    )
    FAST_PATH_BLOCKERS = ()

    def __init__(self, loop, number=None):
        super().__init__(loop)
        self.octets, self.heard, self.data, self.current_frame, self.held = 0, False, b"", None, {}
        self._write_buffer, self._streaming, self.connected = WriteBuffer(), True, True
        self.walker, self.sink, self.lost, self.left = FrameWalker(False), self, None, None
        end = self.fileno() if number is None else number, 0
        self._fast_path = fast_path._compiled.FastPath(
            "frames", (self, self, self.walker), self, self, None, end, end
        )

    def doRead(self, octets=None):
        self.served += 1
        self.left = octets

    def connectionLost(self, reason):
        self.lost = reason.value


compiled = pytest.mark.skipif(fast_path.compiled() is None, reason=NO_COMPILER)


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_the_loop_waits_for_the_next_event_while_fast_paths_alone_are_served(loop):
    """The answer to a message is often ready before the reactor's turn ends."""
    stream = Passing(loop)
    stream.near.recv(1)
    stream.far.send(frame(2, b"one"))
    assert loop._ready() == 0
    assert stream.octets == len(frame(2, b"one")) and not stream.served
    stream.far.send(frame(9, b"no fast path takes a ping"))
    assert loop._ready() == 1 and stream.served == 1


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_a_fast_stream_waits_for_one_slow_stream_at_most(loop):
    passing, slow = Passing(loop), [Greedy(loop) for _ in range(4)]
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
    loop._ready()
    assert passed == [count * len(octets) for count in (1, 2, 3, 4)]


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_fast_paths_that_are_always_ready_leave_the_reactor_its_turn(loop):
    """Each end of a connection sends a frame back, so that one of them is always ready."""
    one = Passing(loop)
    one.near.recv(1)
    other = Passing(loop, number=one.far.fileno())
    loop.removeReader(other)
    other.fileno = one.far.fileno
    loop.addReader(other)
    octets = frame(2, b"to and fro")
    one.far.send(octets)
    loop.doRead()
    assert one.octets + other.octets >= STREAMS_PER_TURN * len(octets)


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_bytes_that_a_fast_path_leaves_are_passed_to_the_stream(loop):
    stream = Passing(loop)
    loop._ready()
    assert stream.left == b"x" and stream.lost is None


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_an_error_of_the_socket_under_a_fast_path_is_a_lost_connection(loop):
    stream = Passing(loop, number=-1)
    loop._ready()
    assert isinstance(stream.lost, ConnectionLost) and not stream.served


@compiled
@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_another_exception_of_a_fast_path_ends_its_stream_alone(loop):
    stream, other = Passing(loop), Greedy(loop)
    stream.walker.left = "none"
    loop._ready()
    assert isinstance(stream.lost, TypeError) and not stream.served and other.served == 1


@compiled
def test_serve_rejects_invalid_arguments():
    serve = fast_path._compiled.serve
    for arguments in (
        (),
        (0, {}, 0, print, print),
        (0, [], 0, print, print, True),
        ("0", {}, 0, print, print, True),
    ):
        with pytest.raises(TypeError):
            serve(*arguments)
    with pytest.raises(OSError):
        serve(-1, {}, 0, print, print, True)


class Ending(Greedy):
    """A stream that notes its writes and its end."""

    connected = True

    def __init__(self, loop):
        super().__init__(loop)
        self.near.recv(1)
        self.events = []

    def doWrite(self):
        self.events.append("write")
        return self.result() if callable(self.result) else self.result

    result = None

    def connectionLost(self, reason):
        self.events.append(reason.value)


def test_a_stream_is_served_soon_after_the_events_of_the_turn(loop):
    soon, busy = Ending(loop), Greedy(loop)
    order = []

    def read():
        loop.serve_soon(soon)
        order.append(list(soon.events))
        busy.near.recv(1)

    busy.doRead = read
    loop.doRead()
    assert order == [[]] and soon.events == ["write"]


def test_a_stream_that_is_served_soon_may_end_or_raise(loop):
    done, raising, aborted, closed = (Ending(loop) for _ in range(4))
    done.result, raising.result, closed.connected = CONNECTION_DONE, [].pop, False
    for stream in (done, raising, closed):
        loop.serve_soon(stream)
    loop.serve_soon(aborted, ConnectionAborted())
    assert not done.events
    with capturedLogs() as events:
        loop._reactor.runUntilCurrent()
    assert [type(event) for each in (done, raising, aborted) for event in each.events] == [
        *(str, ConnectionDone),
        *(str, IndexError),
        ConnectionAborted,
    ]
    assert closed.events == []
    assert [event["log_format"] for event in events] == [
        "a protocol raised an exception, its connection is closed"
    ]


def test_the_end_of_the_loop_ends_streams_that_were_to_be_served_soon(loop):
    stream = Ending(loop)
    stream.result = CONNECTION_DONE
    loop.remove(stream)
    loop.serve_soon(stream)
    loop._reactor.disconnectAll()
    assert [type(event) for event in stream.events] == [str, ConnectionDone]


@compiled
def test_register_and_unregister_reject_invalid_arguments():
    with select.epoll() as epoll, socket.socket() as sock:
        poller, fd, stream = epoll.fileno(), sock.fileno(), object()
        for arguments in ((), (poller, [], stream, fd, 1, 0), (poller, {}, stream, "0", 1, 0)):
            with pytest.raises(TypeError):
                fast_path._compiled.register(*arguments)
        for arguments in ((), (poller, [], stream, fd, 1), (poller, {}, stream, fd, "1")):
            with pytest.raises(TypeError):
                fast_path._compiled.unregister(*arguments)
        for entry in (None, (stream, 1, 0), [stream, 1], [stream, "1", 0]):
            with pytest.raises(TypeError):
                fast_path._compiled.register(poller, {fd: entry}, stream, fd, 1, 0)
            with pytest.raises(TypeError):
                fast_path._compiled.unregister(poller, {fd: entry}, stream, fd, 1)
        entries = {}
        with pytest.raises(OSError):
            fast_path._compiled.register(-1, entries, stream, fd, 1, 0)
        with pytest.raises(OSError):
            fast_path._compiled.unregister(-1, {fd: [stream, 1, 0]}, stream, fd, 1)
        assert entries == {}


@compiled
def test_socket_options_that_a_socket_does_not_have_are_left_out():
    set_options = fast_path._compiled.set_options
    near, far = socket.socketpair()
    with near, far:
        keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        set_options(near.fileno(), ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3), (*keepalive, 1)))
        assert near.getsockopt(*keepalive)
    set_options(-1, ((*keepalive, 1),))
    for arguments in ((), ("0", ()), (0, []), (0, ((1, 2),)), (0, ([1, 2, 3],)), (0, (("1", 2, 3),))):
        with pytest.raises(TypeError):
            set_options(*arguments)


def test_a_stream_may_wait_for_one_event_and_the_other(loop):
    stream = Ending(loop)
    loop.addWriter(stream)
    loop.addWriter(stream)
    loop.doRead()
    assert stream.events and set(stream.events) == {"write"}
    loop.removeWriter(stream)
    loop.removeWriter(stream)
    stream.events.clear()
    stream.far.send(b"x")
    loop._ready()
    assert stream.served == 1 and not stream.events
    loop.addWriter(stream)
    loop.remove(stream)
    loop.remove(stream)
    assert loop._ready() == 0 and stream.served == 1

"""A slow reader keeps its connection; a reader that receives nothing is closed in time."""

import inspect
import socket
import sys
from collections import deque
from types import SimpleNamespace

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOProtocol

from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.websocket.closing import Side
from esxiproxy.net.console.stall_detector import StallDetector
from esxiproxy.net.sockets.linger import MIN_RATE, Linger
from esxiproxy.net.sockets.progress import Progress, StallTimer
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.sockets.tcp_info import TCPInfo
from esxiproxy.net.sockets.timers import Timers
from tests.net.http_scene import HttpScene, get
from tests.net.scene import Scene, frame, up

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these queues")
SLOW = 1000
"""Bytes that a slow reader receives in a second."""


class Slow:
    """A transport whose unsent bytes are set by the test."""

    def __init__(self, unsent=100_000):
        self.unsent_bytes = unsent
        self.aborted = False

    def loseWriteConnection(self):
        pass

    def abortConnection(self):
        self.aborted = True


class Counted(Slow):
    """A transport that counts how often it was queried."""

    looks = 0

    @property
    def unsent_bytes(self):
        self.looks += 1
        return self._unsent

    @unsent_bytes.setter
    def unsent_bytes(self, octets):
        self._unsent = octets


def tcp(acknowledged):
    return TCPInfo(
        acknowledged,
        has_unacked=True,
        window_closed=False,
        has_unanswered_probe=False,
        seconds_since_heard=0.0,
    )


# What is counted


def test_bytes_that_leave_the_write_buffer_are_progress():
    transport = Slow(1000)
    progress = Progress(transport)
    assert progress.count_received() == 0
    transport.unsent_bytes = 400
    assert (progress.count_received(), progress.count_received()) == (600, 0)
    transport.unsent_bytes = 900
    assert progress.count_received() == 0


def test_counted_writes_do_not_hide_progress():
    transport = Slow(1000)
    progress = Progress(transport, written=5000)
    transport.unsent_bytes = 1300
    assert progress.count_received(written=5300) == 0
    transport.unsent_bytes = 1500
    assert progress.count_received(written=6000) == 500


def test_only_bytes_that_tcp_acknowledged_are_progress():
    transport = Slow(1000)
    progress = Progress(transport, peer=tcp(70))
    transport.unsent_bytes = 0  # the write buffer was moved to the kernel
    assert progress.count_received(peer=tcp(70)) == 0
    assert progress.count_received(peer=tcp(75)) == 5


def test_missing_figures_of_the_kernel_are_no_progress():
    progress = Progress(Slow(1000), peer=tcp(70))
    assert (progress.count_received(), progress.count_received(peer=tcp(900))) == (0, 0)


def test_a_transport_without_figures_makes_no_progress():
    progress = Progress(object())
    assert progress.count_received() == 0 and unsent_bytes(object()) == 0


def test_the_buffers_of_twisteds_transports_count():
    plain = FileDescriptor(SimpleNamespace(addWriter=lambda _writer: None))
    plain.connected = True
    plain.dataBuffer, plain.offset = b"x" * 100, 30
    plain.write(b"y" * 50)
    assert unsent_bytes(plain) == 120

    assert "_appSendBuffer = []" in inspect.getsource(TLSMemoryBIOProtocol), "Twisted has renamed it"
    wrapped = SimpleNamespace(_appSendBuffer=[b"z" * 7, b"z"], transport=plain)
    assert unsent_bytes(wrapped) == 128


class Bare(Slow):
    """A transport on a socket, with an empty write buffer."""

    def __init__(self, sock):
        super().__init__(0)
        self._sock = sock

    def getHandle(self):
        return self._sock


@linux
def test_the_queue_of_a_unix_socket_counts():
    near, far = socket.socketpair()
    with near, far:
        progress = Progress(Bare(near))
        near.sendall(b"x" * 5000)
        assert unsent_bytes(Bare(near)) >= 5000 and progress.count_received() == 0
        assert far.recv(10_000)
        assert progress.count_received() >= 5000 and unsent_bytes(Bare(near)) == 0


# The timer


def timer(transport, timeout=60.0):
    clock, stalled = Clock(), []
    return clock, StallTimer(transport, clock, timeout, lambda: stalled.append(clock.seconds())), stalled


def test_a_peer_that_takes_nothing_stalls_at_the_timeout():
    clock, stall, stalled = timer(Slow())
    clock.advance(0.7)
    stall.blocked()
    for _ in range(600):
        clock.advance(0.1)
    clock.advance(0.002)
    assert len(stalled) == 1 and stalled[0] == pytest.approx(60.7)
    assert not clock.getDelayedCalls()


def test_a_peer_that_takes_one_octet_now_and_then_never_stalls_and_stalls_when_it_stops():
    transport = Slow()
    clock, stall, stalled = timer(transport)
    stall.blocked()
    for _ in range(100):
        clock.advance(59)
        transport.unsent_bytes -= 1
    assert not stalled
    last = clock.seconds()
    for _ in range(80):
        clock.advance(1)
    assert len(stalled) == 1 and 60 <= stalled[0] - last <= 60 + 4


def test_one_that_was_unblocked_does_not_stall():
    clock, stall, stalled = timer(Slow())
    stall.blocked()
    clock.advance(10)
    stall.unblocked()
    clock.advance(1000)
    assert not stalled and not clock.getDelayedCalls()


def test_a_busy_transport_is_looked_at_a_few_times_in_a_timeout():
    transport = Counted()
    clock, stall, stalled = timer(transport)
    for _ in range(6000):
        stall.blocked()
        clock.advance(0.01)
        stall.unblocked()
    assert not stalled and transport.looks <= 1 + 16


def test_a_timer_that_was_cancelled_is_gone():
    clock, stall, stalled = timer(Slow())
    stall.cancel()
    stall.blocked()
    stall.cancel()
    assert not clock.getDelayedCalls() and not stalled


# Who uses it


def slowly(scene, wire, seconds):
    """Let the far end of this wire receive a little every second."""
    for _ in range(seconds):
        wire.unblock(SLOW)
        scene.advance(1)


@pytest.mark.parametrize("side", ["client", "host"])
def test_a_console_whose_peer_reads_slowly_goes_on(side):
    scene = Scene(ping_interval=None, stall_timeout=60.0).open()
    slow, busy, of = (scene.client, scene.host, frame) if side == "client" else (scene.host, scene.client, up)
    slow.block()
    busy.send(of(2, b"p" * 500_000), 65536)
    scene.pump()
    slowly(scene, slow, 200)
    assert not scene.recorder.records and not busy.transport.reading
    slow.block()
    scene.advance(59)
    assert not scene.recorder.records
    scene.advance(6)
    busy.close()
    scene.advance(6)
    assert (scene.record.error, scene.record.timeout) == ("StallTimeout", "stall_timeout")
    assert scene.at_rest()


def test_a_slow_reader_is_no_idle_one():
    scene = Scene(ping_interval=None, stall_timeout=60.0, idle_timeout=50.0).open()
    scene.client.block()
    scene.host.send(frame(2, b"p" * 500_000), 65536)
    scene.pump()
    slowly(scene, scene.client, 80)
    assert not scene.recorder.records
    scene.client.unblock()
    scene.pump()
    scene.advance(62)
    assert scene.record.error == "IdleTimeout"


def test_a_download_by_a_slow_reader_goes_on_to_its_end():
    scene = HttpScene(stall_timeout=60)
    scene.ask(get())
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000, 65536)
    slowly(scene, scene.client, 190)
    assert not scene.records and not scene.client.ended
    scene.client.unblock()
    scene.pump()
    assert scene.record.octets_down == 300_000 and not scene.record.error


def test_a_whole_answer_that_is_read_slowly_comes_to_its_end():
    """The exchange is complete, and the next request waits until the client reads."""
    scene = HttpScene(stall_timeout=60)
    scene.client.block()
    scene.ask(get())
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    slowly(scene, scene.client, 95)
    assert not scene.client.ended
    scene.client.unblock()
    scene.pump()
    assert scene.client.received.endswith(b"x" * 1000) and not scene.client.ended


def test_an_upload_to_a_slow_reader_goes_on():
    scene = HttpScene(stall_timeout=60)
    scene.ask(get(b"/x", b"Content-Length: 300000", method=b"PUT"))
    scene.host.block()
    scene.ask(b"x" * 300_000, 65536)
    slowly(scene, scene.host, 200)
    assert not scene.records
    scene.host.block()
    scene.advance(60 + 6)
    assert (scene.record.status, scene.record.error) == (504, "UpstreamTimeout")


class Kernels:
    """Successive TCP_INFO values of a peer; the last one is repeated."""

    def __init__(self, monkeypatch, *says):
        self.says = deque(says)
        for name in ("console.stall_detector", "console.pinger", "sockets.progress"):
            monkeypatch.setattr(f"esxiproxy.net.{name}.tcp_info", self.uptake)

    def uptake(self, _transport):
        return self.says[0] if len(self.says) == 1 else self.says.popleft()


def test_a_slow_reader_has_not_come_to_the_ping_yet(monkeypatch):
    """The ping waits in the send queue behind bytes that the client receives slowly."""
    scene = Scene(ping_interval=25.0, ping_timeout=20.0, tcp_keepalive=None).open()
    kernel = Kernels(monkeypatch, tcp(0))
    for second in range(600):
        kernel.says = deque([tcp(second // 10)])
        scene.advance(1)
    assert not scene.recorder.records
    scene.advance(45 + 20)  # no bytes acknowledged and no pong, though its window is open
    assert (scene.record.error, scene.record.timeout) == ("ClientLost", "ping_timeout")


def test_a_client_that_has_the_ping_owes_the_pong(monkeypatch):
    scene = Scene(ping_interval=25.0, ping_timeout=20.0, tcp_keepalive=None).open()
    at_rest = TCPInfo(
        1000, has_unacked=False, window_closed=False, has_unanswered_probe=False, seconds_since_heard=0.0
    )
    kernel = Kernels(monkeypatch, at_rest)
    scene.advance(26)
    kernel.says = deque(
        [
            TCPInfo(
                2000,
                has_unacked=False,
                window_closed=False,
                has_unanswered_probe=False,
                seconds_since_heard=0.0,
            )
        ]
    )
    scene.advance(25)
    assert scene.record.timeout == "ping_timeout"


class Leg:
    """The attributes of a leg that the stall detector uses."""

    def __init__(self, transport):
        self.transport = transport
        self.octets = 0


@pytest.mark.parametrize("taken", [0, 10])
def test_where_there_is_no_tcp_the_queue_is_looked_at(taken):
    """A unix socket: no leg is blocked, because the unsent bytes fit into the kernel's buffer."""
    clock, ended = Clock(), []
    legs = {Side.CLIENT: Leg(Slow(5000)), Side.UPSTREAM: Leg(Slow(0))}
    stalled = lambda side: ended.append((side, clock.seconds()))  # noqa: E731
    timers = Timers(clock)
    StallDetector(legs, clock, timers, SessionLimits(stall_timeout=60.0), stalled, stalled).start()
    for _ in range(100):
        clock.advance(1)
        legs[Side.UPSTREAM].octets += 20  # these bytes increase the send queue of the client
        legs[Side.CLIENT].transport.unsent_bytes += 20 - taken
    timers.clear()
    assert bool(ended) is not bool(taken)
    if ended:
        assert ended[0][0] is Side.CLIENT and 60 <= ended[0][1] <= 60 + 2 * 15


# A connection that is being closed


def test_a_reader_with_a_large_buffer_takes_much_at_once_and_gets_all_of_it():
    clock, transport = Clock(), Slow(400_000)
    Linger(transport, clock, 5.0, patience=60.0)
    for _ in range(10):
        clock.advance(40)
        assert not transport.aborted
        transport.unsent_bytes -= 40_000
    clock.advance(5)
    assert transport.aborted and not clock.getDelayedCalls()


def test_one_that_takes_nothing_is_cut_after_its_patience():
    clock, transport = Clock(), Slow(400_000)
    Linger(transport, clock, 5.0, patience=60.0)
    for _ in range(59):
        clock.advance(1)
    assert not transport.aborted
    clock.advance(1)
    assert transport.aborted and not clock.getDelayedCalls()


def test_one_that_takes_too_little_has_an_end():
    """A few bytes are progress for a console, but not for a lingering connection."""
    clock, transport = Clock(), Slow(10**9)
    Linger(transport, clock, 5.0, patience=60.0)
    for _ in range(70):
        transport.unsent_bytes -= MIN_RATE - 1
        clock.advance(1)
    assert transport.aborted


def test_one_that_has_everything_is_given_close_timeout():
    clock, transport = Clock(), Slow(0)
    Linger(transport, clock, 5.0, patience=60.0)
    clock.advance(4.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted


def test_the_last_answer_of_a_connection_is_delivered_to_a_slow_reader():
    scene = HttpScene(stall_timeout=60, close_timeout=5)
    scene.ask(get(b"/", b"Connection: close"))
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    for _ in range(10):  # many bytes at once, then none for longer than close_timeout
        scene.client.unblock(9_000)
        scene.pump()
        scene.client.block()
        scene.advance(15)
        assert not scene.client.ended
    scene.client.unblock()
    scene.pump()
    assert scene.client.received.endswith(b"x" * 1000) and scene.client.saw_fin


def test_a_refusal_waits_for_close_timeout_only():
    scene = HttpScene(stall_timeout=60, close_timeout=5)
    scene.client.block()
    scene.client.send(b"nonsense\r\n\r\n")
    scene.pump()
    scene.advance(5.2)
    assert scene.client.ended == "aborted"

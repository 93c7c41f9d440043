"""Slow readers keep their consoles, downloads and last answers; stalled ones are closed in time."""

from collections import deque

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.websocket.closing import Side
from esxiproxy.net.console.stall_detector import StallDetector
from esxiproxy.net.sockets.linger import MIN_RATE, Linger
from esxiproxy.net.sockets.tcp_info import TCPInfo
from esxiproxy.net.sockets.timers import Timers
from tests.net.http_scene import HttpScene, get
from tests.net.scene import Scene, frame, up
from tests.net.slow_transport import SLOW, Slow, tcp

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


def test_a_reader_that_receives_nothing_is_aborted_after_the_stall_timeout():
    clock, transport = Clock(), Slow(400_000)
    Linger(transport, clock, 5.0, patience=60.0)
    for _ in range(59):
        clock.advance(1)
    assert not transport.aborted
    clock.advance(1)
    assert transport.aborted and not clock.getDelayedCalls()


def test_a_reader_that_receives_too_little_is_aborted():
    """A few bytes are progress for a console, but not for a lingering connection."""
    clock, transport = Clock(), Slow(10**9)
    Linger(transport, clock, 5.0, patience=60.0)
    for _ in range(70):
        transport.unsent_bytes -= MIN_RATE - 1
        clock.advance(1)
    assert transport.aborted


def test_a_reader_that_has_everything_gets_close_timeout():
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


# Who uses it


def slowly(scene, wire, seconds):
    """Let the far end of this wire receive a little every second."""
    for _ in range(seconds):
        wire.unblock(SLOW)
        scene.advance(1)


@pytest.mark.parametrize("side", ["client", "host"])
def test_a_console_with_a_slow_reader_is_kept(side):
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


def test_a_download_by_a_slow_reader_completes():
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


def test_an_upload_to_a_slow_reader_is_kept():
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


def test_a_slow_reader_may_not_have_read_the_ping(monkeypatch):
    """The ping waits in the send queue behind bytes that the client receives slowly."""
    scene = Scene(ping_interval=25.0, ping_timeout=20.0, tcp_keepalive=None).open()
    kernel = Kernels(monkeypatch, tcp(0))
    for second in range(600):
        kernel.says = deque([tcp(second // 10)])
        scene.advance(1)
    assert not scene.recorder.records
    scene.advance(45 + 20)  # no bytes acknowledged and no pong, though its window is open
    assert (scene.record.error, scene.record.timeout) == ("ClientLost", "ping_timeout")


def test_a_client_that_acknowledged_the_ping_has_to_answer_it(monkeypatch):
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

"""The stall detector finds a peer that acknowledges nothing, and a dead one."""

import socket
import sys
from dataclasses import replace

import pytest
from twisted.internet.protocol import Protocol

from esxiproxy.net.sockets.tcp_info import TCPInfo, tcp_info
from tests.net.memory import Wire
from tests.net.scene import Scene, up
from tests.support.programs import until

RESTS = TCPInfo(
    acknowledged=1000,
    has_unacked=False,
    window_closed=False,
    has_unanswered_probe=False,
    seconds_since_heard=0.0,
)
CLOSED = replace(RESTS, has_unacked=True, window_closed=True)
"""The TCP state of a peer that answers the kernel's probes."""
GONE = replace(RESTS, has_unacked=True, has_unanswered_probe=True)


class Kernel:
    """A stand-in for the kernel's state of the client's connection.

    ``silent_since`` is the time of the last received segment.
    """

    def __init__(self, monkeypatch, **limits):
        self.scene = Scene(**limits).open()
        self.told = RESTS
        self.silent_since = None
        for name in ("console.stall_detector", "console.pinger"):
            monkeypatch.setattr(f"esxiproxy.net.{name}.tcp_info", self._uptake)

    def _uptake(self, transport):
        if transport is not self.scene.client.transport:
            return RESTS
        if self.silent_since is None:
            return self.told
        return replace(self.told, seconds_since_heard=self.scene.clock.seconds() - self.silent_since)

    def goes(self):
        """Cut the client's link while bytes are unacknowledged."""
        self.told, self.silent_since = GONE, self.scene.clock.seconds()

    def ended_after(self):
        """Advance the clock until there is a record; return the seconds."""
        began = self.scene.clock.seconds()
        while not self.scene.recorder.records:
            assert self.scene.clock.seconds() - began < 1000
            self.scene.advance(1)
        return self.scene.clock.seconds() - began


def test_a_living_client_that_acknowledges_nothing_is_kept_until_stall_timeout(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None, stall_timeout=600.0)
    kernel.told = CLOSED
    assert 600 <= kernel.ended_after() < 600 + 2 * 15
    assert (kernel.scene.record.error, kernel.scene.record.timeout) == ("StallTimeout", "stall_timeout")
    assert kernel.scene.record.detail == "the client acknowledged nothing for 600 s (bytes in the send queue)"


def test_a_slow_reader_does_not_stall(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None)
    for taken in range(20):
        kernel.told = replace(CLOSED, acknowledged=taken)
        kernel.scene.advance(40)
    assert not kernel.scene.recorder.records


def test_a_client_that_has_acknowledged_everything_does_not_stall(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None)
    for _ in range(20):
        kernel.told = CLOSED
        kernel.scene.advance(40)
        kernel.told = RESTS
        kernel.scene.advance(40)
    assert not kernel.scene.recorder.records


def test_a_dead_client_is_detected_within_tcp_keepalive(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None, stall_timeout=600.0)
    kernel.scene.advance(100)
    kernel.goes()
    assert kernel.ended_after() <= 60 + 5
    record = kernel.scene.record
    assert (record.error, record.timeout, record.ended_by) == ("ClientLost", "tcp_keepalive", "client")


def test_a_client_that_answers_late_is_not_dead(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None, stall_timeout=600.0)
    for _ in range(8):
        kernel.goes()
        kernel.scene.advance(44)
    assert not kernel.scene.recorder.records


def test_a_client_that_was_idle_has_half_of_the_time_to_answer(monkeypatch):
    """Its last segment was 24 s before the first lost byte: idle time before that byte does not count."""
    kernel = Kernel(monkeypatch, ping_interval=None, stall_timeout=600.0)
    kernel.scene.advance(24)
    kernel.silent_since = kernel.scene.clock.seconds() - 24
    kernel.told = GONE
    kernel.scene.advance(30)
    kernel.told, kernel.silent_since = RESTS, None
    kernel.scene.advance(300)
    assert not kernel.scene.recorder.records


def test_no_client_is_dead_within_4_s(monkeypatch):
    """A short tcp_keepalive still leaves time for a round trip, as the kernel's own probes do."""
    kernel = Kernel(monkeypatch, ping_interval=None, tcp_keepalive=1.0)
    for _ in range(20):
        kernel.goes()
        kernel.scene.advance(1)
        kernel.told, kernel.silent_since = RESTS, None
        kernel.scene.advance(1)
    assert not kernel.scene.recorder.records


def test_without_tcp_keepalive_no_client_is_dead_before_stall_timeout(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None, tcp_keepalive=None, stall_timeout=100.0)
    kernel.goes()
    assert 100 <= kernel.ended_after() <= 100 + 25 + 6
    assert kernel.scene.record.error == "StallTimeout"


def test_a_ping_that_waits_at_a_closed_window_is_not_due(monkeypatch):
    kernel = Kernel(monkeypatch, stall_timeout=600.0)
    kernel.told = CLOSED
    kernel.scene.advance(300)
    assert not kernel.scene.recorder.records
    kernel.told = RESTS
    assert kernel.ended_after() <= 25 + 20 + 6
    assert kernel.scene.record.timeout == "ping_timeout"


def test_a_ping_that_is_on_its_way_is_due(monkeypatch):
    kernel = Kernel(monkeypatch)
    kernel.scene.advance(25)
    kernel.goes()
    assert kernel.ended_after() <= 20 + 6
    assert kernel.scene.record.timeout == "ping_timeout"


def test_a_session_continues_where_the_kernel_reports_nothing():
    scene = Scene(ping_interval=None).open()
    scene.advance(1000)
    scene.client.send(up(9, b"still here"))
    scene.pump()
    assert not scene.recorder.records and tcp_info(scene.client.transport) is None


# The kernel itself


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells")
def test_the_kernel_reports_the_acknowledged_bytes():
    with socket.create_server(("127.0.0.1", 0)) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near = socket.create_connection(port.getsockname())
        far, _address = port.accept()
    with near, far:
        found = tcp_info(near)
        assert not (found.has_unacked or found.window_closed or found.has_unanswered_probe)
        near.sendall(b"x" * 100)
        until(lambda: not tcp_info(near).has_unacked, "the kernel of the other one has them")
        assert tcp_info(near).acknowledged == found.acknowledged + 100
        near.sendall(b"x" * 50_000)
        until(lambda: tcp_info(near).window_closed, "its window is closed")
        assert tcp_info(near).has_unacked and tcp_info(near).acknowledged < found.acknowledged + 50_100
        got = b""
        while len(got) < 50_100:
            got += far.recv(65536)
        until(lambda: not tcp_info(near).has_unacked, "it has read them")
        assert tcp_info(near).acknowledged == found.acknowledged + 50_100


def test_a_unix_socket_has_no_figures_of_tcp():
    near, far = socket.socketpair()
    with near, far:
        assert tcp_info(near) is None
    assert tcp_info(near) is None and tcp_info(Wire(Protocol()).transport) is None

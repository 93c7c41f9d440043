"""A slow reader keeps its connection; a reader that receives nothing is closed in time."""

import inspect
import socket
import sys
from types import SimpleNamespace

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOProtocol

from esxiproxy.net.sockets.progress import Progress, StallTimer
from esxiproxy.net.sockets.send_queue import unsent_bytes
from tests.net.slow_transport import Slow, tcp

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these queues")


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


def test_a_peer_that_receives_nothing_stalls_at_the_timeout():
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


def test_an_unblocked_peer_does_not_stall():
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


def test_a_cancelled_timer_leaves_no_call():
    clock, stall, stalled = timer(Slow())
    stall.cancel()
    stall.blocked()
    stall.cancel()
    assert not clock.getDelayedCalls() and not stalled

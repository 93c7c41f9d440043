"""Tests of a TLS stream with rare results of OpenSSL, which a scripted connection returns."""

from __future__ import annotations

import socket

import pytest
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from esxiproxy.net.transport.constants import HIGH_WATER, RECORD_SIZE
from esxiproxy.net.transport.interfaces import HandshakeCut
from esxiproxy.net.transport.tcp import TCPStream
from esxiproxy.net.transport.tls import TLSStream
from tests.net.transport.loop import Peer
from tests.net.transport.test_behaviour import Producer

HOST = IPv4Address("TCP", "127.0.0.1", 1)


class Loop:
    """A loop that keeps what is registered with it."""

    def __init__(self):
        self.reads, self.writes = set(), set()
        self.later = []
        self.addReader, self.removeReader = self.reads.add, self.reads.discard
        self.addWriter, self.removeWriter = self.writes.add, self.writes.discard

    def callLater(self, _delay, call, *args):
        self.later.append((call, args))

    def remove(self, stream):
        self.reads.discard(stream), self.writes.discard(stream)

    def serve_soon(self, stream, why=None):
        self.later.append((stream.doWrite, ()) if why is None else (stream.connectionLost, (Failure(why),)))

    def run(self):
        later, self.later = self.later, []
        for call, args in later:
            call(*args)


class StandIn:
    """An OpenSSL connection that raises scripted exceptions and returns other scripted values.

    A script that is used up answers WANT_READ to reads and takes all that is written.
    """

    def __init__(self):
        self.recvs, self.sends, self.shakes, self.shuts = [], [], [], []
        self.offered = []
        self.sent = b""
        self.waiting = 0
        self.random = None

    def _next(self, script, default):
        answer = script.pop(0) if script else default
        if isinstance(answer, BaseException) or (
            isinstance(answer, type) and issubclass(answer, BaseException)
        ):
            raise answer
        return answer

    def client_random(self):
        return self.random

    def recv(self, size):
        assert size == RECORD_SIZE
        return self._next(self.recvs, SSL.WantReadError)

    def send(self, octets):
        octets = bytes(octets)
        if self.offered and self.offered[-1] is not None:
            blocked = self.offered[-1]
            assert octets[: len(blocked)] == blocked, "bad write retry"
        self.offered.append(octets)
        count = self._next(self.sends, len(octets))
        self.offered[-1] = None
        self.sent += octets[:count]
        return count

    def do_handshake(self):
        return self._next(self.shakes, None)

    def shutdown(self):
        assert not self.offered or self.offered[-1] is None, "close_notify has overtaken a record"
        return self._next(self.shuts, False)

    def pending(self):
        return self.waiting


class Scene:
    def __init__(self, shaken=True):
        self.near, self.far = socket.socketpair()
        self.loop, self.tls, self.peer = Loop(), StandIn(), Peer()
        plain = TCPStream(self.near, Peer(), self.loop, HOST)
        self.stream = TLSStream(plain, self.peer, self.tls)
        self.peer.makeConnection(self.stream)
        self.stream.start(False)
        if shaken:
            assert self.stream.doRead() is None
            assert self.peer.shaken == 1

    @property
    def reads(self):
        return self.stream in self.loop.reads

    @property
    def writes(self):
        return self.stream in self.loop.writes


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.near.close()
    scene.far.close()


def test_a_client_whose_first_step_fails_ends_with_that_error():
    """The upstream's answer is received before the first step, so ``start`` rejects its certificate."""
    scene = Scene(shaken=False)
    rejected = SSL.Error([("esxiproxy", "", "certificate verify failed")])
    scene.tls.shakes = [rejected, SSL.Error([])]
    scene.stream.start(True)
    assert scene.stream.doRead() is rejected
    assert scene.stream.doWrite() is rejected
    scene.near.close()
    scene.far.close()


def test_a_blocked_record_is_offered_again_whole_and_first(scene):
    """After WANT_WRITE, the retry writes at least the same bytes."""
    scene.tls.sends = [SSL.WantWriteError, SSL.WantWriteError]
    scene.stream.write(b"first")
    scene.stream.write(b"second")
    assert scene.tls.sent == b"" and scene.writes
    assert scene.stream.doWrite() is None
    assert scene.stream.doWrite() is None
    assert scene.stream.doWrite() is None
    assert scene.tls.sent == b"firstsecond"
    assert not scene.writes


def test_a_short_write_is_continued(scene):
    scene.tls.sends = [3, SSL.WantWriteError, 1, 2]
    scene.stream.write(b"0123456789")
    for _ in range(5):
        scene.stream.doWrite()
    assert scene.tls.sent == b"0123456789"


def test_a_write_that_wants_to_read_waits_for_a_read(scene):
    """The socket is always writable, so epoll would spin."""
    scene.tls.sends = [SSL.WantReadError]
    scene.stream.write(b"blocked")
    assert not scene.writes and scene.reads
    scene.tls.recvs = [b"came in"]
    assert scene.stream.doRead() is None
    assert scene.tls.sent == b"blocked"
    assert bytes(scene.peer.got) == b"came in"


def test_a_write_that_wants_to_read_is_read_for_though_paused(scene):
    scene.stream.pauseProducing()
    assert not scene.reads
    scene.tls.sends = [SSL.WantReadError]
    scene.stream.write(b"blocked")
    assert scene.reads
    scene.tls.recvs = [b"not now"]
    assert scene.stream.doRead() is None
    assert scene.tls.sent == b"blocked"
    assert not scene.peer.got and not scene.reads


def test_a_queued_write_that_wants_to_read_disarms(scene):
    scene.tls.sends = [SSL.WantWriteError, SSL.WantReadError]
    scene.stream.write(b"blocked")
    assert scene.writes
    scene.stream.doWrite()
    assert not scene.writes and scene.reads
    scene.stream.doRead()
    assert scene.tls.sent == b"blocked"


def test_a_read_that_wants_to_write_waits_for_the_socket(scene):
    """No read is tried, since epoll would spin, and no write, since its bytes would be sent first."""
    scene.tls.recvs = [SSL.WantWriteError, b"after"]
    assert scene.stream.doRead() is None
    assert scene.writes and not scene.reads
    scene.stream.write(b"late")
    assert scene.tls.sent == b""
    assert scene.stream.doWrite() is None
    assert bytes(scene.peer.got) == b"after"
    assert scene.tls.sent == b"late"
    assert scene.reads and not scene.writes


def test_a_read_that_wants_to_write_twice(scene):
    scene.tls.recvs = [SSL.WantWriteError, SSL.WantWriteError, b"after"]
    scene.stream.doRead()
    scene.stream.doWrite()
    assert scene.writes and not scene.reads
    scene.stream.doWrite()
    assert bytes(scene.peer.got) == b"after"
    assert scene.reads and not scene.writes


def test_a_pause_while_a_read_wants_to_write(scene):
    """The blocked bytes are still written; nothing is delivered before reading resumes."""
    scene.tls.recvs = [SSL.WantWriteError]
    scene.stream.doRead()
    scene.stream.pauseProducing()
    assert scene.writes
    scene.stream.doWrite()
    assert not scene.peer.got and not scene.reads and not scene.writes
    scene.tls.recvs = [b"after"]
    scene.stream.resumeProducing()
    assert scene.reads
    scene.stream.doRead()
    assert bytes(scene.peer.got) == b"after"


def test_a_resume_reads_pending_data(scene):
    """Epoll does not report these bytes, and they are not delivered inside resumeProducing()."""
    scene.stream.pauseProducing()
    scene.tls.waiting = 5
    scene.tls.recvs = [b"stood"]
    scene.stream.resumeProducing()
    assert not scene.peer.got
    scene.loop.run()
    assert bytes(scene.peer.got) == b"stood"


def test_one_event_reads_a_bounded_number_of_bytes_and_hands_them_on_as_one(scene):
    scene.tls.recvs = [bytes(RECORD_SIZE)] * 100
    scene.stream.doRead()
    assert scene.peer.chunks == [6 * RECORD_SIZE]


def test_a_pause_ends_the_read_loop(scene):
    scene.tls.recvs = [bytes(RECORD_SIZE)] * 9
    scene.peer.on_octets = lambda peer, _octets: peer.transport.pauseProducing()
    scene.stream.doRead()
    scene.stream.doRead()
    assert len(scene.peer.chunks) == 1


def test_bytes_before_an_error_are_delivered(scene):
    scene.tls.recvs = [bytes(RECORD_SIZE), SSL.SysCallError(104, "ECONNRESET")]
    assert scene.stream.doRead() is CONNECTION_LOST
    assert scene.peer.chunks == [RECORD_SIZE]


@pytest.mark.parametrize(
    "fault",
    [SSL.SysCallError(-1, "Unexpected EOF"), SSL.SysCallError(104, "ECONNRESET"), SSL.Error([])],
    ids=["eof", "reset", "openssl4"],
)
def test_a_broken_connection_is_lost(scene, fault):
    scene.tls.recvs = [fault]
    assert scene.stream.doRead() is CONNECTION_LOST


def test_a_bad_record_is_itself(scene):
    fault = SSL.Error([("SSL routines", "", "bad record mac")])
    scene.tls.recvs = [fault]
    assert scene.stream.doRead() is fault


@pytest.mark.parametrize(("random", "cut"), [(None, False), (bytes(32), False), (b"\x01" * 32, True)])
def test_a_client_that_leaves_in_the_call_that_read_its_hello_was_in_the_handshake(random, cut):
    scene = Scene(shaken=False)
    scene.tls.shakes, scene.tls.random = [SSL.SysCallError(104, "ECONNRESET")], random
    scene.stream.connectionLost(Failure(scene.stream.doRead()))
    assert isinstance(scene.peer.lost, HandshakeCut) is cut
    scene.far.close()


def test_bytes_before_a_failed_write_are_delivered(scene):
    """An upstream answers during an upload and closes; its answer is delivered although the write fails."""
    scene.tls.sends = [SSL.SysCallError(32, "EPIPE")]
    scene.tls.recvs = [bytes(RECORD_SIZE)] * 8
    scene.stream.write(b"x")
    assert scene.writes and not scene.peer.chunks
    assert scene.stream.doWrite() is None
    assert scene.stream.doWrite() is CONNECTION_LOST
    assert sum(scene.peer.chunks) == 8 * RECORD_SIZE


def test_an_eager_write_that_fails_is_left_for_the_loop(scene):
    fault = SSL.Error([("SSL routines", "", "protocol is shutdown")])
    scene.tls.sends = [fault]
    scene.peer.do(scene.stream.write, b"x")
    assert scene.peer.lost is None and scene.writes
    assert scene.stream.doWrite() is fault
    scene.stream.connectionLost(Failure(fault))
    assert scene.peer.lost is fault and not scene.peer.lost_in_call


def test_a_close_notify_answers_the_peers(scene):
    scene.tls.recvs = [SSL.ZeroReturnError]
    scene.tls.shuts = [True]
    assert scene.stream.doRead() is CONNECTION_DONE
    scene.stream.connectionLost(Failure(CONNECTION_DONE))
    assert isinstance(scene.peer.lost, error.ConnectionDone)


def test_the_queue_is_written_after_the_close_notify_of_the_peer(scene):
    scene.tls.sends = [SSL.WantWriteError]
    scene.stream.write(b"queued")
    scene.tls.recvs = [SSL.ZeroReturnError]
    assert scene.stream.doRead() is None
    assert not scene.reads and scene.writes
    assert scene.stream.doWrite() is CONNECTION_DONE
    assert scene.tls.sent == b"queued"


def test_after_the_peers_close_notify_the_write_buffer_is_the_last_even_with_a_producer(scene):
    """A paused producer would be resumed, and the connection would never be served again."""
    producer = Producer()
    scene.stream.registerProducer(producer, True)
    scene.tls.sends = [SSL.WantWriteError]
    scene.stream.write(bytes(HIGH_WATER + 1))
    scene.tls.recvs = [SSL.ZeroReturnError]
    assert scene.stream.doRead() is None
    assert scene.stream.doWrite() is CONNECTION_DONE
    scene.stream.connectionLost(Failure(CONNECTION_DONE))
    assert producer.calls == ["pause", "stop"] and isinstance(scene.peer.lost, error.ConnectionDone)


def test_our_close_notify_waits_for_the_socket(scene):
    scene.tls.shuts = [SSL.WantWriteError, False]
    scene.stream.loseConnection()
    assert scene.stream.doWrite() is None
    assert scene.writes
    assert scene.stream.doWrite() is None
    assert not scene.writes and scene.reads
    scene.tls.recvs = [SSL.ZeroReturnError]
    assert scene.stream.doRead() is CONNECTION_DONE


def test_our_close_notify_is_sent_once(scene):
    scene.tls.shuts = [False, AssertionError("twice")]
    scene.stream.loseConnection()
    scene.stream.doWrite()
    scene.stream.write(b"too late")
    scene.stream.loseConnection()
    scene.stream.unregisterProducer()
    scene.stream.doWrite()
    assert scene.tls.sent == b""


def test_an_end_that_epoll_calls_clean_is_none_without_close_notify(scene):
    scene.stream.connectionLost(Failure(CONNECTION_DONE))
    assert isinstance(scene.peer.lost, error.ConnectionLost)


def test_a_handshake_waits_for_the_direction_that_it_wants():
    scene = Scene(shaken=False)
    assert scene.reads and not scene.writes
    scene.tls.shakes = [SSL.WantWriteError, SSL.WantReadError, None]
    scene.stream.write(b"early")
    scene.stream.doRead()
    assert scene.writes and not scene.reads
    scene.stream.doWrite()
    assert scene.reads and not scene.writes
    assert not scene.peer.shaken and scene.tls.sent == b""
    scene.stream.doRead()
    assert scene.peer.shaken == 1 and scene.writes
    scene.stream.doWrite()
    assert scene.tls.sent == b"early"
    scene.near.close()
    scene.far.close()

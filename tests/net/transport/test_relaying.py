"""Tests of two legs over real streams, with the fast path and without it."""

from __future__ import annotations

import random
import socket

import pytest
from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from zope.interface import implementer

from esxiproxy.core.websocket.frames import FrameWalker, control_frame
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.transport.constants import HIGH_WATER
from esxiproxy.net.transport.stream import Stream
from tests.net.transport.loop import Net, Peer, with_and_without_tls
from tests.net.transport.test_fast_path import MASK, PING, message
from tests.support.websocket import frame


def frames_of(octets):
    """Yield the opcode and the bytes of each frame."""
    octets, at = bytes(octets), 0
    while at < len(octets):
        first, second = octets[at : at + 2]
        length, size = second & 0x7F, 2 + (4 if second & 0x80 else 0)
        if length >= 126:
            more = 2 if length == 126 else 8
            length, size = int.from_bytes(octets[at + 2 : at + 2 + more]), size + more
        yield first & 0x0F, octets[at : at + size + length]
        at += size + length


@implementer(IHandshakeListener)
class Relayed(Leg):
    """A leg without a session."""

    made, shaken, reason = False, 0, None

    def __init__(self, server):
        super().__init__(FrameWalker(masked=server))
        self.factory = type("Factory", (), {"isServer": server})
        self.faults = []
        self.open()

    def begin(self):
        self.made = True
        self.transport.registerProducer(self, True)

    def handshakeCompleted(self):
        self.shaken += 1

    def connection_ended(self, reason):
        self.reason = reason.value
        if not self.peer_leg.lost:
            self.peer_leg.transport.unregisterProducer()
            self.peer_leg.transport.loseConnection()

    def fault(self, error):
        self.faults.append(error)
        super().fault(error)

    # Flow control

    def pauseProducing(self):
        self.blocked = True
        self.peer_leg.transport.pauseProducing()

    def resumeProducing(self):
        self.blocked = False
        if self.held and not self.mid_frame():
            self.write_held()
        if not self.peer_leg.lost:
            self.peer_leg.transport.resumeProducing()

    def stopProducing(self):
        pass


class Down(Relayed, WebSocketServerProtocol):
    """The leg to the client."""

    requireMaskedClientFrames = True


class Up(Relayed, WebSocketClientProtocol):
    """The leg to the upstream."""

    acceptMaskedServerFrames = False


class Relay:
    """Two connections with a relay between them, whose far ends are peers of the test."""

    def __init__(self, certificate, kinds, rng):
        self.nets = [Net(True, tls, certificate) for tls in kinds]
        # Both connections are served by one loop, as in a proxy.
        self.nets[1].core._poller.close()
        self.nets[1].core, self.nets[1].reactor = self.nets[0].core, self.nets[0].reactor
        self.client, self.upstream = Peer(), Peer()
        down, up = self.legs = Down(True), Up(False)
        self.nets[0].pair(self.client, down)
        down.transport.pauseProducing()
        self.nets[1].pair(self.upstream, up)
        down.peer_leg = down.sink = up
        up.peer_leg = up.sink = down
        for each in (down, up, self.client, self.upstream):
            size = rng.choice((20_000, 200_000))
            each.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        down.transport.resumeProducing()

    def until(self, true):
        self.nets[0].until(true)

    def close(self):
        self.nets[0]._open += self.nets[1]._open
        self.nets[0].close()


@pytest.fixture
def relay(certificate):
    made = []

    def make(kinds, rng):
        made.append(Relay(certificate, kinds, rng))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pour(rng, far, pieces):
    """Write a random number of bytes, and remove them from ``pieces``."""
    size = min(rng.choice((1, 2, 7, 64, 1000, 20_000, 200_000)), len(pieces))
    far.transport.write(bytes(pieces[:size]))
    del pieces[:size]


@with_and_without_tls
@pytest.mark.parametrize("seed", range(4))
def test_data_frames_pass_verbatim_and_control_frames_at_boundaries(relay, way, kinds, seed):
    rng = random.Random(seed)
    scene = relay(kinds, rng)
    sent, left, pings = [b"", b""], [bytearray(), bytearray()], 0
    for side, masked in enumerate((True, False)):
        while len(sent[side]) < 700_000:
            for piece in message(rng, masked):
                sent[side] += piece
                left[side] += piece
                if rng.random() < 0.3:
                    left[side] += control_frame(PING, b"?", MASK if masked else b"")
                    pings += 1
    fars = scene.client, scene.upstream
    while any(left):
        for side in (0, 1):
            if left[side] and rng.random() < 0.7:
                pour(rng, fars[side], left[side])
        if rng.random() < 0.1:
            far = rng.choice(fars)
            rng.choice((far.transport.pauseProducing, far.transport.resumeProducing))()
        scene.nets[0].turn(0.001)
    for far in fars:
        far.transport.resumeProducing()

    def data(far):
        return sum(len(octets) for opcode, octets in frames_of(far.got) if opcode < 8)

    scene.until(lambda: [data(far) for far in fars] == [len(sent[1]), len(sent[0])])
    for far, expected in zip(fars, reversed(sent), strict=True):
        assert b"".join(octets for opcode, octets in frames_of(far.got) if opcode < 8) == expected
    assert not any(leg.faults for leg in scene.legs)
    assert [leg.octets for leg in scene.legs] == [len(each) for each in sent]
    assert all((leg.transport._fast_path is not None) == (way == "compiled") for leg in scene.legs)


@with_and_without_tls
def test_a_session_whose_ends_read_nothing_holds_256_kib(relay, way, kinds, monkeypatch):
    """A direction queues bytes up to the high-water mark, and the bytes that one more event reads."""
    most = {}
    queue = Stream._queue

    def watch(stream, octets):
        queue(stream, octets)
        most[stream] = max(most.get(stream, 0), stream.unsent_bytes)

    monkeypatch.setattr(Stream, "_queue", watch)
    scene = relay(kinds, random.Random(1))
    for far, mask in ((scene.client, MASK), (scene.upstream, None)):
        far.transport.pauseProducing()
        far.transport.write(frame(2, bytes(60_000), mask=mask) * 200)
    scene.until(lambda: all(leg.blocked for leg in scene.legs))
    scene.nets[0].settle()
    held = [most[leg.transport] + len(leg.data) for leg in scene.legs]
    assert min(held) > HIGH_WATER and max(held) <= 128 * 1024


@with_and_without_tls
def test_bytes_right_before_the_end_arrive_before_it(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    whole = frame(2, b"x" * 1000, mask=MASK)
    scene.client.transport.write(whole)
    scene.until(lambda: len(scene.upstream.got) == len(whole))
    scene.client.transport.write(whole * 90)
    scene.client.transport.loseConnection()
    scene.until(lambda: scene.upstream.lost is not None)
    assert scene.upstream.got == whole * 91
    assert scene.legs[0].lost and scene.legs[0].octets == len(whole) * 91


@with_and_without_tls
def test_a_fault_behind_good_frames_is_found_and_nothing_of_it_passes(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    whole = frame(2, b"x" * 1000, mask=MASK)
    for octets in (whole, whole * 3 + frame(3, b"bad", mask=MASK) + whole):
        scene.client.transport.write(octets)
        scene.until(lambda: scene.upstream.got or scene.legs[0].faults)
    scene.until(lambda: scene.legs[0].faults)
    scene.until(lambda: len(scene.upstream.got) == 4 * len(whole))
    assert scene.upstream.got == whole * 4


@pytest.mark.parametrize("kinds", [(True, False), (True, True)])
def test_a_bad_record_ends_the_leg_with_the_error_that_it_is(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    whole = frame(2, b"x" * 1000, mask=MASK)
    scene.client.transport.write(whole)
    scene.until(lambda: len(scene.upstream.got) == len(whole))
    scene.client.transport.socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    scene.until(lambda: scene.legs[0].lost)
    assert isinstance(scene.legs[0].reason, SSL.Error)


@with_and_without_tls
def test_a_closed_sink_is_never_written_to_again(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    whole = frame(2, b"x" * 60_000, mask=MASK)
    scene.client.transport.write(whole)
    scene.until(lambda: len(scene.upstream.got) == len(whole))
    handle = scene.legs[1].transport.socket
    scene.upstream.transport.abortConnection()
    scene.until(lambda: scene.legs[1].lost)
    assert handle.fileno() == -1
    scene.client.transport.write(whole)
    scene.until(lambda: scene.client.lost is not None)
    assert len(scene.upstream.got) == len(whole)


class Watching(FrameWalker):
    """A walker that counts the bytes it is given, as a trace does."""

    def __init__(self):
        super().__init__(True)
        self.seen = 0

    def walk(self, octets):
        run = super().walk(octets)
        self.seen += run
        return run


@with_and_without_tls
def test_a_walker_that_takes_the_place_of_another_sees_all_that_passes_from_then_on(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    leg = scene.legs[0]
    whole = frame(2, b"x" * 60_000, mask=MASK)

    def send(octets):
        before = len(scene.upstream.got)
        scene.client.transport.write(octets)
        scene.until(lambda: len(scene.upstream.got) == before + len(octets))

    def is_short():
        return leg.transport._fast_path is not None

    send(whole), send(whole[:30_000])
    assert is_short() == (way == "compiled")
    watching = Watching()
    leg.walker = watching.resume(leg.walker)
    send(whole[30_000:]), send(whole)
    assert watching.seen == len(whole[30_000:]) + len(whole) and not is_short()
    leg.walker = FrameWalker(True).resume(watching)
    send(whole), send(whole)
    assert is_short() == (way == "compiled")
    assert scene.upstream.got == whole * 5 and not leg.faults

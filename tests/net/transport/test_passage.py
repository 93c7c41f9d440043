"""The compiled way through a relay does what the way through Python does, byte for byte."""

from __future__ import annotations

import gc
import random
import socket
import weakref

import pytest
from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from zope.interface import implementer

from esxiproxy.core.frames import FrameWalker, control_frame
from esxiproxy.net.leg import Leg
from esxiproxy.net.transport import passage
from esxiproxy.net.transport.outbox import Outbox
from esxiproxy.net.transport.stream import HIGH_WATER, Stream
from tests.net.transport.loop import Net, Peer
from tests.wsclient import frame

compiled = pytest.mark.skipif(passage._compiled is None, reason="there was no compiler")

PING = 9
LENGTHS = (0, 1, 64, 125, 126, 127, 1000, 4096, 16384, 65535, 65536, 70000, 300_000)
MASK = b"\x5a\xc3\x17\x8e"


def message(rng, masked):
    """The data frames of one message."""
    parts = [rng.randbytes(rng.choice(LENGTHS)) for _ in range(rng.choice((1, 1, 1, 3)))]
    mask = MASK if masked else None
    for number, part in enumerate(parts):
        opcode = 0 if number else rng.choice((1, 2))
        yield frame(opcode, part, mask=mask, fin=number == len(parts) - 1)


def frames_of(octets):
    """Whole frames as they came, by opcode."""
    octets, at = bytes(octets), 0
    while at < len(octets):
        first, second = octets[at : at + 2]
        length, size = second & 0x7F, 2 + (4 if second & 0x80 else 0)
        if length >= 126:
            more = 2 if length == 126 else 8
            length, size = int.from_bytes(octets[at + 2 : at + 2 + more]), size + more
        yield first & 0x0F, octets[at : at + size + length]
        at += size + length


@pytest.mark.parametrize(("name", "signature"), passage.OPENSSL.items())
def test_what_is_called_of_openssl_is_as_we_know_it(name, signature):
    found = _openssl.ffi.addressof(_openssl.lib, name)
    assert _openssl.ffi.typeof(found).cname == signature


def test_want_read_is_the_number_that_is_compiled_in():
    assert SSL._lib.SSL_ERROR_WANT_READ == 2


def test_a_word_in_the_environment_takes_it_out(monkeypatch):
    monkeypatch.setenv("ESXIPROXY_TRANSPORTS", "python")
    assert passage.compiled() is None
    monkeypatch.delenv("ESXIPROXY_TRANSPORTS")
    assert passage.compiled() is passage._compiled


# The compiled part alone


class Ends:
    """What the compiled part sees of a stream: the place of its slots, and how to write what is left."""

    __slots__ = ("_outbox", "_streaming", "connected", "late", "stuck", "waits")
    BUSY = ("stuck", "waits")

    def __init__(self):
        self._outbox, self.late = Outbox(), b""
        self._streaming = self.connected = True
        self.stuck, self.waits = False, None

    def write(self, octets):
        assert type(octets) is bytes
        self.late += octets


class Going:
    """A leg and its sink, as the compiled part sees them, between two pairs of sockets."""

    __slots__ = ("__dict__", "current_frame", "data", "heard", "held", "octets", "sink", "walker")

    def __init__(self, masked=True, max_frame=None):
        self.walker = FrameWalker(masked, max_frame)
        self.far_in, self.near_in = socket.socketpair()
        self.near_out, self.far_out = socket.socketpair()
        self.sockets = self.far_in, self.near_in, self.near_out, self.far_out
        for each in self.sockets:
            each.setblocking(False)
        self.octets, self.heard, self.data, self.current_frame, self.held = 0, False, b"", None, {}
        self.sink = self
        self.source, self.target = Ends(), Ends()

    def arguments(self):
        longest = passage._NO_LIMIT if self.walker.max_frame is None else self.walker.max_frame
        ends = (self.near_in.fileno(), 0), (self.near_out.fileno(), 0)
        streams = self.source, self.target
        return [self, self, self.walker, *streams, None, *ends, self.walker.masked, longest]

    def passage(self):
        return passage._compiled.Passage(*self.arguments())

    def go(self, chunk=b""):
        if chunk:
            assert self.far_in.send(chunk) == len(chunk)
        return self.passage()()

    @property
    def late(self):
        return self.target.late

    def close(self):
        for each in self.sockets:
            each.close()


@pytest.fixture
def going():
    made = []

    def make(*args):
        made.append(Going(*args))
        return made[-1]

    yield make
    for each in made:
        each.close()


def stream(rng, masked):
    """Good frames as a rule, and now and then anything."""
    pieces = []
    for _ in range(12):
        pieces += message(rng, masked)
        if rng.random() < 0.2:
            pieces.append(control_frame(PING, b"x" * rng.randrange(126), MASK if masked else b""))
    octets = bytearray(b"".join(pieces)[:150_000])
    for _ in range(rng.choice((0, 0, 3))):
        octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
    return bytes(octets)


@compiled
@pytest.mark.parametrize("seed", range(60))
def test_it_passes_just_what_the_walker_passes_and_gives_back_the_rest_as_it_came(going, seed):
    rng = random.Random(seed)
    masked, max_frame = rng.random() < 0.5, rng.choice((None, None, 100_000, 1000))
    one, other = going(masked, max_frame), FrameWalker(masked, max_frame)
    octets, at, passed = stream(rng, masked), 0, 0
    while at < len(octets):
        chunk = octets[at : at + rng.choice((1, 2, 6, 70, 4096, 40_000))]
        at += len(chunk)
        state = other.left, other.fragmented
        good = other.walk(chunk) == len(chunk)
        assert one.go(chunk) == (None if good else chunk)
        if not good:
            assert (one.walker.left, one.walker.fragmented) == state
            break
        passed += len(chunk)
        assert (one.walker.left, one.walker.fragmented) == (other.left, other.fragmented)
        assert one.far_out.recv(1 << 20) == chunk
        assert one.octets == passed and one.heard and not one.late


@compiled
def test_what_the_sink_does_not_take_is_written_the_other_way(going):
    one = going()
    one.near_out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
    octets = frame(2, random.Random(1).randbytes(60_000), mask=MASK)
    assert one.go(octets) is None
    assert one.late and one.far_out.recv(1 << 20) + one.late == octets
    assert one.octets == len(octets) and one.walker.left == 0


@compiled
def test_the_end_a_reset_and_nothing_at_all_are_three_things(going):
    one = going()
    with pytest.raises(BlockingIOError):
        one.near_in.recv(1)
    assert one.go() is None and not one.heard
    one.far_in.close()
    assert one.go() == b"" and not one.heard
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
        other = going()
        other.near_in.close()
        other.near_in = near
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with near, pytest.raises(ConnectionResetError):
            other.go()


@compiled
def test_a_descriptor_that_is_closed_is_an_error_and_no_more(going):
    one = going()
    one.near_in.close()
    with pytest.raises(OSError):
        one.go()
    one = going()
    one.near_out.close()
    octets = frame(2, b"x", mask=MASK)
    assert one.go(octets) is None and one.late == octets


CHANGES = {
    "no sink": lambda one: setattr(one, "sink", None),
    "a beginning in hand": lambda one: setattr(one, "data", b"\x82"),
    "nothing that could be in hand": lambda one: setattr(one, "data", None),
    "a control frame in the making": lambda one: setattr(one, "current_frame", object()),
    "another walker": lambda one: setattr(one, "walker", FrameWalker(True)),
    "a frame held": lambda one: one.held.update({PING: b""}),
    "bytes queued": lambda one: one.target._outbox.put(b"x"),
    "nobody feeds the target": lambda one: setattr(one.target, "_streaming", False),
    "the target has ended": lambda one: setattr(one.target, "connected", False),
    "the source has ended": lambda one: setattr(one.source, "connected", False),
    "the target is busy": lambda one: setattr(one.target, "stuck", True),
    "the source is busy": lambda one: setattr(one.source, "waits", OSError()),
    "a slot is empty": lambda one: delattr(one.source, "waits"),
}


@compiled
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_reads_nothing_while_something_is_in_the_way(going, change):
    one = going()
    way, octets = one.passage(), frame(2, b"x", mask=MASK)
    one.far_in.send(octets)
    change(one)
    assert way() == b"" and not one.heard
    assert one.near_in.recv(100) == octets


@compiled
def test_a_number_that_is_none_is_raised(going):
    one = going()
    way = one.passage()
    one.walker.left = "0"
    with pytest.raises(TypeError):
        way()


@compiled
def test_arguments_of_another_kind_are_refused(going):
    one = going()
    good = one.arguments()
    for place, wrong in ((6, 0), (7, (0,)), (9, "long"), (2, object()), (3, object())):
        with pytest.raises((TypeError, AttributeError)):
            passage._compiled.Passage(*good[:place], wrong, *good[place + 1 :])
    for arguments, named in (((), {}), (good, {"leg": one})):
        with pytest.raises(TypeError):
            passage._compiled.Passage(*arguments, **named)
    with pytest.raises(TypeError):
        one.passage()(1)


@compiled
@pytest.mark.parametrize(
    "busy", [["stuck"], ("__init__",), ("stuck",) * 9], ids=["list", "no slot", "too many"]
)
def test_a_stream_that_says_it_in_another_way_is_refused(going, busy, monkeypatch):
    monkeypatch.setattr(Ends, "BUSY", busy)
    with pytest.raises(TypeError):
        going().passage()


@compiled
def test_a_passage_that_nobody_took_out_is_collected(going):
    one = going()

    class Held:
        pass

    held = Held()
    arguments = one.arguments()
    arguments[5] = held
    held.way = passage._compiled.Passage(*arguments)
    gone = weakref.ref(held)
    del held, arguments
    gc.collect()
    assert gone() is None


# Legs, over streams


@implementer(IHandshakeListener)
class Relayed(Leg):
    """A leg whose session is nothing but its relay."""

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

    def left(self, reason):
        self.reason = reason.value
        if not self.twin.lost:
            self.twin.transport.unregisterProducer()
            self.twin.transport.loseConnection()

    def fault(self, error):
        self.faults.append(error)
        super().fault(error)

    # The valve

    def pauseProducing(self):
        self.blocked = True
        self.twin.transport.pauseProducing()

    def resumeProducing(self):
        self.blocked = False
        if self.held and not self.mid_frame():
            self.release()
        if not self.twin.lost:
            self.twin.transport.resumeProducing()

    def stopProducing(self):
        pass


class Down(Relayed, WebSocketServerProtocol):
    """Toward the client."""

    requireMaskedClientFrames = True


class Up(Relayed, WebSocketClientProtocol):
    """Toward the upstream."""

    acceptMaskedServerFrames = False


@pytest.fixture(params=["compiled", "python"])
def way(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(passage, "_PART", None)
    elif passage._compiled is None:
        pytest.skip("there was no compiler")
    else:
        monkeypatch.setattr(passage, "_PART", passage._compiled)
    return request.param


KINDS = [(False, False), (False, True), (True, True), (True, False)]


class Relay:
    """Two connections with a relay between them: the far ends are the test's."""

    def __init__(self, certificate, kinds, rng):
        self.nets = [Net(True, tls, certificate) for tls in kinds]
        # Both connections are served by one ring, as in a proxy.
        self.nets[1].core._poller.close()
        self.nets[1].core, self.nets[1].reactor = self.nets[0].core, self.nets[0].reactor
        self.client, self.upstream = Peer(), Peer()
        down, up = self.legs = Down(True), Up(False)
        self.nets[0].pair(self.client, down)
        down.transport.pauseProducing()
        self.nets[1].pair(self.upstream, up)
        down.twin = down.sink = up
        up.twin = up.sink = down
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
    """Write a stream in random pieces; what is left of it."""
    size = min(rng.choice((1, 2, 7, 64, 1000, 20_000, 200_000)), len(pieces))
    far.transport.write(bytes(pieces[:size]))
    del pieces[:size]


@pytest.mark.parametrize("kinds", KINDS)
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
    assert all((leg.transport._passage is not None) == (way == "compiled") for leg in scene.legs)


@pytest.mark.parametrize("kinds", KINDS)
def test_a_session_whose_ends_read_nothing_holds_256_kib(relay, way, kinds, monkeypatch):
    """A direction holds what is queued: a write below the mark, and what one event reads on top of it."""
    most = {}
    queue = Stream._queue

    def watch(stream, octets):
        queue(stream, octets)
        most[stream] = max(most.get(stream, 0), stream.unsent)

    monkeypatch.setattr(Stream, "_queue", watch)
    scene = relay(kinds, random.Random(1))
    for far, mask in ((scene.client, MASK), (scene.upstream, None)):
        far.transport.pauseProducing()
        far.transport.write(frame(2, bytes(60_000), mask=mask) * 200)
    scene.until(lambda: all(leg.blocked for leg in scene.legs))
    scene.nets[0].settle()
    held = [most[leg.transport] + len(leg.data) for leg in scene.legs]
    assert min(held) > HIGH_WATER and max(held) <= 128 * 1024


@pytest.mark.parametrize("kinds", KINDS)
def test_what_comes_right_before_the_end_arrives_and_the_end_after_it(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    whole = frame(2, b"x" * 1000, mask=MASK)
    scene.client.transport.write(whole)
    scene.until(lambda: len(scene.upstream.got) == len(whole))
    scene.client.transport.write(whole * 90)
    scene.client.transport.loseConnection()
    scene.until(lambda: scene.upstream.lost is not None)
    assert scene.upstream.got == whole * 91
    assert scene.legs[0].lost and scene.legs[0].octets == len(whole) * 91


@pytest.mark.parametrize("kinds", KINDS)
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


@pytest.mark.parametrize("kinds", KINDS)
def test_a_sink_that_goes_in_mid_stream_is_never_written_to_again(relay, way, kinds):
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
    """Sees all that passes, as a trace does."""

    def __init__(self):
        super().__init__(True)
        self.seen = 0

    def walk(self, octets):
        run = super().walk(octets)
        self.seen += run
        return run


@pytest.mark.parametrize("kinds", KINDS)
def test_a_walker_that_takes_the_place_of_another_sees_all_that_passes_from_then_on(relay, way, kinds):
    scene = relay(kinds, random.Random(1))
    leg = scene.legs[0]
    whole = frame(2, b"x" * 60_000, mask=MASK)

    def send(octets):
        before = len(scene.upstream.got)
        scene.client.transport.write(octets)
        scene.until(lambda: len(scene.upstream.got) == before + len(octets))

    def is_short():
        return leg.transport._passage is not None

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

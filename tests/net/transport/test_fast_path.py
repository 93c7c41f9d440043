"""Tests of the fast path against FrameWalker: it forwards the same bytes and returns the others."""

from __future__ import annotations

import gc
import random
import select
import socket
import weakref
from pathlib import Path

import pytest
from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from esxiproxy.core.websocket.frames import FrameWalker, control_frame
from esxiproxy.net.transport import constants, fast_path
from tests.net.transport.fast_path_scene import Ends, Pairs, compiled
from tests.support.websocket import frame

PING = 9
LENGTHS = (0, 1, 64, 125, 126, 127, 1000, 4096, 16384, 65535, 65536, 70000, 300_000)
MASK = b"\x5a\xc3\x17\x8e"


def message(rng, masked):
    """Yield the data frames of one random message."""
    parts = [rng.randbytes(rng.choice(LENGTHS)) for _ in range(rng.choice((1, 1, 1, 3)))]
    mask = MASK if masked else None
    for number, part in enumerate(parts):
        opcode = 0 if number else rng.choice((1, 2))
        yield frame(opcode, part, mask=mask, fin=number == len(parts) - 1)


@pytest.mark.parametrize(("name", "signature"), fast_path.OPENSSL.items())
def test_openssl_functions_have_the_expected_types(name, signature):
    found = _openssl.ffi.addressof(_openssl.lib, name)
    assert _openssl.ffi.typeof(found).cname == signature


def test_want_read_is_the_number_that_is_compiled_in():
    assert SSL._lib.SSL_ERROR_WANT_READ == 2


def test_the_compiled_part_has_the_bounds_of_the_python_part():
    header = (Path(constants.__file__).parent / "compiled.h").read_text()
    for name in ("RECORDS_PER_EVENT", "SMALL_RECORD", "MAX_EVENTS", "STREAMS_PER_TURN"):
        assert f" {name} = {getattr(constants, name)}," in header
    assert " RECORD_SIZE = 16 * 1024," in header and constants.RECORD_SIZE == 16 * 1024
    assert " BUFFER_SIZE = RECORDS_PER_EVENT * RECORD_SIZE," in header
    assert constants.READ_SIZE == constants.TLS_READ_SIZE == 6 * 16 * 1024


def test_an_environment_variable_disables_it(monkeypatch):
    monkeypatch.setenv("ESXIPROXY_TRANSPORTS", "python")
    assert fast_path.compiled() is None
    monkeypatch.delenv("ESXIPROXY_TRANSPORTS")
    assert fast_path.compiled() is fast_path._compiled


class Going(Pairs):
    """A leg and its sink as the compiled part sees them, between two pairs of sockets."""

    __slots__ = ("current_frame", "data", "heard", "held", "octets", "sink", "walker")

    def __init__(self, masked=True, max_frame=None):
        super().__init__()
        self.walker = FrameWalker(masked, max_frame)
        self.octets, self.heard, self.data, self.current_frame, self.held = 0, False, b"", None, {}
        self.sink = self

    def arguments(self):
        return super().arguments("frames", self, self, self.walker)


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
    """Return random frames, some of which are control frames or invalid."""
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
def test_it_forwards_the_bytes_that_the_walker_forwards_and_returns_the_others(going, seed):
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
def test_bytes_that_the_socket_does_not_take_are_passed_to_write(going):
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
    "bytes queued": lambda one: one.target._write_buffer.append(b"x"),
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
    way, octets = one.fast_path(), frame(2, b"x", mask=MASK)
    one.far_in.send(octets)
    change(one)
    assert way() == b"" and not one.heard
    assert one.near_in.recv(100) == octets


@compiled
def test_a_walker_with_an_invalid_number_raises(going):
    one = going()
    way = one.fast_path()
    one.walker.left = "0"
    with pytest.raises(TypeError):
        way()


@compiled
def test_arguments_of_another_kind_are_refused(going):
    one = going()
    good = one.arguments()
    wrongs = (
        *((5, 0), (6, (0,)), (0, 1), (0, "other frames"), (2, object()), (3, object())),
        *((1, []), (1, (one, one)), (1, (one, one, object())), (1, (one, object(), one.walker))),
    )
    for place, wrong in wrongs:
        with pytest.raises((TypeError, AttributeError)):
            fast_path._compiled.FastPath(*good[:place], wrong, *good[place + 1 :])
    for arguments, named in (((), {}), (good, {"kind": "frames"})):
        with pytest.raises(TypeError):
            fast_path._compiled.FastPath(*arguments, **named)
    with pytest.raises(TypeError):
        one.fast_path()(1)


@compiled
@pytest.mark.parametrize(
    "busy", [["stuck"], ("__init__",), ("stuck",) * 9], ids=["list", "no slot", "too many"]
)
def test_a_stream_with_invalid_blockers_is_refused(going, busy, monkeypatch):
    monkeypatch.setattr(Ends, "FAST_PATH_BLOCKERS", busy)
    with pytest.raises(TypeError):
        going().fast_path()


@compiled
def test_a_fast_path_that_was_not_removed_is_collected(going):
    one = going()

    class Held:
        pass

    held = Held()
    arguments = one.arguments()
    arguments[4] = held
    held.way = fast_path._compiled.FastPath(*arguments)
    gone = weakref.ref(held)
    del held, arguments
    gc.collect()
    assert gone() is None


@compiled
def test_a_stream_may_remove_its_entry_while_it_is_asked_for_its_fast_path():
    """The next list of Python's has the place of the removed one."""
    served, made, asked = [], [], []

    class Owner:
        def __init__(self, name):
            self.name = name

        @property
        def _fast_path(self):
            asked.append(self.name)
            if len(asked) == 2:  # the first time is before slow streams are served
                entries.clear()
                made.append([Owner("another one"), select.EPOLLIN, 0])

        def doRead(self):
            served.append(self.name)

    near, far = socket.socketpair()
    with near, far, select.epoll() as poller:
        poller.register(near, select.EPOLLIN)
        far.send(b"x")
        entries = {near.fileno(): [Owner("the one that is ready"), select.EPOLLIN, 0]}
        fast_path._compiled.serve(poller.fileno(), entries, 1, served.append, served.append, False)
    assert served == ["the one that is ready"] and len(asked) == 2

"""Tests of the fast path against bodies in Python: it forwards the same bytes and returns the others."""

from __future__ import annotations

import random
import re
import socket
from pathlib import Path

import pytest

from esxiproxy.core.errors import MalformedRequest, SessionError
from esxiproxy.core.http import chunked_body
from esxiproxy.core.http.body import FixedBody, OpenBody
from esxiproxy.core.http.chunked_body import MAX_PLAIN_SIZE, MIN_COUNTED_CHUNKS, ChunkedBody
from esxiproxy.net.transport import constants, fast_path
from tests.net.transport.fast_path_scene import Pairs, compiled

pytestmark = compiled


def test_the_compiled_part_has_the_bounds_of_the_chunked_body():
    source = (Path(constants.__file__).parent / "scan_body.c").read_text()
    assert f" MIN_COUNTED_CHUNKS = {chunked_body.MIN_COUNTED_CHUNKS}," in source
    digits = int(re.search(r" MAX_DIGITS = (\d+),", source)[1])
    assert 16**digits - 1 == MAX_PLAIN_SIZE


class Passing(Pairs):
    """A body between two pairs of sockets."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def arguments(self):
        kind = "fixed body" if isinstance(self.body, FixedBody) else "chunked body"
        return super().arguments(kind, self.body)

    def state(self):
        body = self.body
        return body.left, body.octets, body.is_complete, body.trailing, getattr(body, "rest", b"")


@pytest.fixture
def passing():
    made = []

    def make(body):
        made.append(Passing(body))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fixed():
    return FixedBody(100_000)


def chunked(max_body=None):
    return ChunkedBody(MalformedRequest, "the body", tuple, max_body)


def test_a_body_with_a_length_passes_up_to_the_read_with_its_end(passing):
    one = passing(FixedBody(100_000))
    octets = random.Random(1).randbytes(100_000)
    assert one.go(octets[:60_000]) is None and one.state()[:2] == (40_000, 60_000)
    assert one.go(octets[60_000:99_999]) is None and one.state()[:2] == (1, 99_999)
    assert one.far_out.recv(1 << 20) == octets[:99_999]
    for behind in (b"", b"GET / HTTP/1.1"):
        assert one.go(octets[99_999:] + behind) == octets[99_999:] + behind
        assert one.state()[:2] == (1, 99_999)
    with pytest.raises(BlockingIOError):
        one.far_out.recv(1)


TINY = b"1\r\nx\r\n"
PLAIN = (
    b"5\r\nhello\r\n",
    b"A\r\n0123456789\r\n",
    b"fFf\r\n" + b"x" * 4095 + b"\r\n",
    b"9c40\r\n" + b"y" * 40_000 + b"\r\n",
)
CUT = (b"5\r\n", b"5\r\nhe", b"5\r\nhello", b"5\r\nhello\r", b"ffffff\r\nabc", b"fffffff\r\nabc")
"""Plain chunks that a read ends within."""
ODD = (
    *(b"05\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"5 \r\nhello\r\n", b"00000001\r\nx\r\n", b"10000000\r\nx"),
    *(b"0\r\n\r\n", b"0\r\nA: b\r\n", b"0\r\n", b"5\r", b"5", b"fffffff\r", b"\r\n", b"-5\r\nhello\r\n"),
    *(b"5\r\nhelloo\r\n", b"5\r\nhello\n\r", b"5\r\nhello\rX", b"5\nhello\r\n", b"5\r\rhello\r\n"),
    *(b"g\r\n", b"G\r\n", b"@\r\n", b"`\r\n", b":\r\n", b"/\r\n", b"\x10\r\nx", b"1\x00\r\n"),
)


@pytest.mark.parametrize("seed", range(60))
def test_chunks_pass_unless_python_has_to_read_them(passing, seed):
    """Bytes that pass are those that a body in Python returns unchanged, and leave the same state."""
    rng = random.Random(seed)
    max_body = rng.choice((None, None, 50_000))
    one, other = passing(chunked(max_body)), chunked(max_body)
    pieces = [rng.choice((*ODD, *CUT, TINY * 100) if rng.random() < 0.1 else PLAIN) for _ in range(20)]
    octets, at = b"".join(pieces)[:150_000], 0
    while at < len(octets) and not (other.is_invalid or other.is_complete):
        chunk = octets[at : at + rng.choice((1, 2, 6, 70, 4096, 40_000))]
        at += len(chunk)
        before, left = one.state(), one.go(chunk)
        if left is None:
            assert other.take(chunk) is chunk and one.far_out.recv(1 << 20) == chunk
        else:
            assert (left or one.near_in.recv(1 << 20)) == chunk and one.state() == before
            with pytest.raises(BlockingIOError):
                one.far_out.recv(1)
            assert take(one.body, chunk) == take(other, chunk)
        assert one.state() == (other.left, other.octets, other.is_complete, other.trailing, other.rest)


def take(body, octets):
    """Return the bytes for the other side, and the class of the error."""
    out = b""
    try:
        out += body.take(octets)
        while body.more or body.is_invalid:
            out += body.take(b"")
    except SessionError as error:
        return out, type(error)
    return out, None


@pytest.mark.parametrize("octets", [*PLAIN, *CUT, TINY * (MIN_COUNTED_CHUNKS - 2)], ids=len)
def test_plain_chunks_pass_wherever_a_read_ends(passing, octets):
    for before in (b"", b"5\r\nhello\r\n"):
        one = passing(chunked())
        assert one.go(before + octets) is None and one.far_out.recv(1 << 20) == before + octets
        assert one.body.left == take_left(before + octets)


def take_left(octets):
    body = chunked()
    body.take(octets)
    return body.left


@pytest.mark.parametrize("octets", [*ODD, TINY * MIN_COUNTED_CHUNKS])
def test_what_is_not_plain_is_left_to_python_with_all_of_its_read(passing, octets):
    for before in (b"", b"5\r\nhello\r\n"):
        one = passing(chunked())
        assert one.go(before + octets) == before + octets and one.body.octets == 0


def test_payload_over_the_maximum_is_left_to_python(passing):
    one = passing(chunked(max_body=10))
    assert one.go(b"5\r\nhello\r\n") is None
    assert one.go(b"6\r\nhello") is None, "the maximum is reached"
    assert one.go(b"o") == b"o" and one.body.octets == 10


@pytest.mark.parametrize("make", [fixed, chunked])
def test_bytes_that_the_socket_does_not_take_are_passed_to_write(passing, make):
    one = passing(make())
    one.near_out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
    octets = b"ffff\r\n" + bytes(60_000)
    assert one.go(octets) is None
    assert one.late and one.far_out.recv(1 << 20) + one.late == octets


CHANGES = {
    "not verbatim": lambda one: setattr(one.body, "verbatim", False),
    "bytes queued": lambda one: one.target._write_buffer.append(b"x"),
    "the source has ended": lambda one: setattr(one.source, "connected", False),
    "the target is busy": lambda one: setattr(one.target, "stuck", True),
}


@pytest.mark.parametrize("make", [fixed, chunked])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_reads_nothing_while_something_is_in_the_way(passing, make, change):
    one = passing(make())
    way = one.fast_path()
    one.far_in.send(b"5\r\nhello\r\n")
    change(one)
    assert way() == b"" and one.body.octets == 0
    assert one.near_in.recv(100) == b"5\r\nhello\r\n"


def test_it_reads_nothing_behind_a_part_of_a_line(passing):
    one = passing(chunked())
    way = one.fast_path()
    assert one.body.take(b"5\r\nhello\r\n5") == b"5\r\nhello\r\n"
    one.far_in.send(b"\r\nworld\r\n")
    assert way() == b"" and one.near_in.recv(100) == b"\r\nworld\r\n"
    one.body.rest = None
    assert way() == b""


@pytest.mark.parametrize("make", [fixed, chunked])
@pytest.mark.parametrize("slot", ["left", "octets"])
@pytest.mark.parametrize("value", ["1", -1, 1 << 64, None])
def test_a_body_with_an_invalid_number_raises(passing, make, slot, value):
    one = passing(make())
    way = one.fast_path()
    setattr(one.body, slot, value)
    with pytest.raises((TypeError, OverflowError)):
        way()


def test_a_body_that_ends_with_the_connection_or_is_beyond_64_bits_has_no_fast_path(passing):
    one = passing(OpenBody(True))
    for body in (one.body, OpenBody(False), FixedBody(1 << 63)):
        assert fast_path.body_fast_path(body, one.source, one.target) is None
    with pytest.raises(AttributeError):
        one.fast_path()

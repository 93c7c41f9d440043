"""FrameWalker: how far bytes may be forwarded, in any chunks."""

import random
import struct

import pytest

from esxiproxy.core.errors import FrameTooBig, ProtocolViolation
from esxiproxy.core.websocket.frames import FrameWalker, whole_control_frame
from tests.support import websocket


def frame(opcode, payload, fin=True, mask=b"abcd", rsv=0):
    """Return a frame, by default one of a client."""
    return websocket.frame(opcode, payload, fin, rsv, mask)


def walk_in_chunks(stream, sizes, masked=True):
    """Return the bytes that are forwarded of a stream in chunks; the rest is kept as a leg keeps it."""
    walker, kept, forwarded = FrameWalker(masked), b"", []
    while stream:
        size = next(sizes)
        kept, stream = kept + stream[:size], stream[size:]
        count = walker.walk(kept)
        forwarded.append(kept[:count])
        kept = kept[count:]
        if walker.control or walker.fault:
            break
    return walker, forwarded, kept


def test_whole_frames_pass_at_once():
    stream = frame(2, b"x" * 10) + frame(1, b"") + frame(2, b"y" * 70000)
    walker = FrameWalker(masked=True)
    assert walker.walk(stream) == len(stream)
    assert walker.left == 0 and walker.boundary == 0


@pytest.mark.parametrize("seed", range(50))
def test_any_chunking_forwards_every_byte_and_no_part_of_a_header(seed):
    chance = random.Random(seed)
    frames = [
        frame(2, chance.randbytes(chance.choice([0, 1, 125, 126, 127, 1000, 65535, 65536, 70000])))
        for _ in range(20)
    ]
    edges, position = set(), 0
    for one in frames:
        edges.add(position)
        position += len(one)
    stream = b"".join(frames)
    sizes = iter(lambda: chance.choice([1, 2, 3, 7, 13, 100, 65536]), None)
    walker, forwarded, kept = walk_in_chunks(stream, sizes)
    assert b"".join(forwarded) == stream and kept == b""
    assert walker.left == 0


def test_a_header_is_forwarded_only_when_it_is_whole():
    stream = frame(2, b"z" * 70000)
    for cut in range(14):
        walker = FrameWalker(masked=True)
        assert walker.walk(stream[:cut]) == 0
        assert walker.left == 0 and walker.boundary == 0
    walker = FrameWalker(masked=True)
    assert walker.walk(stream[:14]) == 14
    assert walker.left == 70000


def test_the_first_boundary_in_a_run_is_reported():
    walker = FrameWalker(masked=True)
    one = frame(2, b"x" * 100)
    walker.walk(one[:50])
    assert walker.left == len(one) - 50
    two = frame(2, b"y" * 100)
    assert walker.walk(one[50:] + two[:20]) == len(one) - 50 + 20
    assert walker.boundary == len(one) - 50
    walker.walk(two[20:30])
    assert walker.boundary == -1
    walker.walk(two[30:])
    assert walker.boundary == len(two) - 30 and walker.left == 0


def test_the_walk_stops_in_front_of_a_control_frame():
    walker = FrameWalker(masked=True)
    stream = frame(2, b"x", fin=False) + frame(9, b"ping") + frame(0, b"y")
    count = walker.walk(stream)
    assert walker.control and stream[count:].startswith(frame(9, b"ping"))
    assert walker.fragmented
    count = walker.walk(frame(0, b"y"))
    assert not walker.control and not walker.fragmented


BAD = {
    "rsv1": frame(2, b"x", rsv=4),
    "rsv2": frame(2, b"x", rsv=2),
    "rsv3": frame(2, b"x", rsv=1),
    **{f"opcode {n}": frame(n, b"x") for n in range(3, 8)},
    "unmasked": frame(2, b"x", mask=b""),
    "continuation of nothing": frame(0, b"x"),
    "16-bit length for 125": bytes([0x82, 0xFE, 0, 125]) + b"abcd",
    "64-bit length for 65535": bytes([0x82, 0xFF]) + struct.pack("!Q", 65535) + b"abcd",
    "length of 2^63": bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 63) + b"abcd",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_malformed_frame_is_a_violation_and_earlier_frames_pass(bad):
    good = frame(2, b"good")
    walker = FrameWalker(masked=True)
    assert walker.walk(good + bad) == len(good)
    assert isinstance(walker.fault, ProtocolViolation)


def test_a_masked_server_frame_is_a_violation():
    walker = FrameWalker(masked=False)
    assert walker.walk(frame(2, b"x")) == 0
    assert walker.fault is not None and walker.fault.detail == "masked server frame"


def test_a_new_message_inside_of_another_is_a_violation():
    walker = FrameWalker(masked=True)
    first = frame(1, b"x", fin=False)
    assert walker.walk(first + frame(2, b"y")) == len(first)
    assert walker.fault is not None


def test_max_frame_refuses_by_the_announced_length():
    walker = FrameWalker(masked=True, max_frame=1000)
    good = frame(2, b"x" * 1000)
    assert walker.walk(good + frame(2, b"x" * 1001)[:20]) == len(good)
    assert isinstance(walker.fault, FrameTooBig)


@pytest.mark.parametrize("mask", [b"", b"abcd"])
@pytest.mark.parametrize("size", [0, 2, 3, 125])
def test_a_control_frame_in_one_piece_is_parsed(mask, size):
    payload = bytes(range(size))
    for opcode in (8, 9, 10):
        whole = frame(opcode, payload, mask=mask)
        assert whole_control_frame(whole + b"more", bool(mask)) == (opcode, payload, len(whole))
        assert all(whole_control_frame(whole[:cut], bool(mask)) is None for cut in range(len(whole)))


@pytest.mark.parametrize(
    ("octets", "masked"),
    [
        (frame(9, b"x", fin=False), True),
        (frame(9, b"x", rsv=4), True),
        (frame(11, b"x"), True),
        (frame(2, b"x"), True),
        (frame(9, b"x" * 126), True),
        (frame(8, b"x"), True),
        (frame(9, b"x"), False),
        (frame(9, b"x", mask=b"") + b"more", True),
    ],
)
def test_an_invalid_control_frame_is_left_to_autobahn(octets, masked):
    assert whole_control_frame(octets, masked) is None

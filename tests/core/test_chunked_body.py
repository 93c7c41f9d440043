"""A chunked body: one reading of it, little work for many chunks, and an end to a flood of tiny ones."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.core.errors import BodyTooLarge, MalformedRequest, UpstreamLost
from esxiproxy.core.http.chunked_body import (
    CHUNKS_PER_CHECK,
    CHUNKS_PER_TURN,
    MAX_LINE,
    MAX_PLAIN_SIZE,
    MIN_MEAN_SIZE,
    ChunkedBody,
)
from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.core.http.message import trailer_fields

new_body = partial(ChunkedBody, MalformedRequest, "the body", tuple)


def take_all(body, *reads):
    """Return what comes of these reads, each taken to its end."""
    out = b""
    for octets in reads:
        out += body.take(octets)
        while body.more or body.is_invalid:
            out += body.take(b"")
    return out


def one_by_one(octets):
    return [octets[i : i + 1] for i in range(len(octets))]


def ways_to_cut(octets):
    """Yield all ways to receive these bytes in two reads, in one, and byte by byte."""
    yield one_by_one(octets)
    for cut in range(len(octets)):
        yield [octets[:cut], octets[cut:]]


GOOD = {
    "one": (b"3\r\nabc\r\n0\r\n\r\n", None, b"abc"),
    "two": (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", None, b"abc"),
    "none": (b"0\r\n\r\n", None, b""),
    "capitals": (b"A\r\n0123456789\r\n0\r\n\r\n", None, b"0123456789"),
    "zeros": (b"000A\r\n0123456789\r\n000\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "extensions": (
        b'1;a=b;c="d e\t"\r\nx\r\n1\r\nz\r\n1 ;\xe9\r\ny\r\n0;z\r\n\r\n',
        b"1\r\nx\r\n1\r\nz\r\n1\r\ny\r\n0\r\n\r\n",
        b"xzy",
    ),
    "trailers": (b"1\r\nx\r\n0\r\nA:b \r\nC:\r\n\r\n", b"1\r\nx\r\n0\r\nA: b\r\nC: \r\n\r\n", b"x"),
    "line ends as data": (b"4\r\n\r\n0\r\r\n0\r\n\r\n", None, b"\r\n0\r"),
}
"""By name: a body, the body for the other side if it is not the same, and the payload."""


@pytest.mark.parametrize(("octets", "framed", "payload"), GOOD.values(), ids=GOOD.keys())
def test_a_body_is_read_in_one_way(octets, framed, payload):
    framed = octets if framed is None else framed
    for behind in (b"", b"GET /", b"0\r\n\r\n"):
        for reads in ([octets + behind], *ways_to_cut(octets + behind)):
            for payload_only in (False, True):
                body = new_body(payload_only=payload_only)
                assert take_all(body, *reads) == (payload if payload_only else framed)
                assert body.is_complete and not body.verbatim and body.end(clean=False) == b""
                assert (body.octets, body.trailing) == (len(payload), behind)


@pytest.mark.parametrize(("octets", "framed", "payload"), GOOD.values(), ids=GOOD.keys())
def test_a_held_body_is_framed_from_where_it_is_released(octets, framed, payload):
    for cut in range(1, len(octets)):
        body = new_body(payload_only=True)
        held = body.take(octets[:cut])
        other = new_body(payload_only=True)
        assert take_all(other, body.release(held), *one_by_one(take_all(body, octets[cut:]))) == payload
        assert body.is_complete and other.is_complete and body.octets == other.octets == len(payload)


def test_a_read_without_anything_to_remove_is_not_copied():
    body = new_body()
    for octets in (b"1\r\na\r\n3e8\r\n", b"x" * 500, b"x" * 500 + b"\r", b"\n1\r\nb\r\n0\r\n\r\n"):
        assert body.take(octets) is octets
    assert body.is_complete and body.octets == 1002


PIECES = st.sampled_from(
    [*(octets for octets, _, _ in GOOD.values()), b"5\r\nhello\r\n", b"1;x\r\n", b"\r\n", b"7", b"x"]
)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(1, 60)))
def test_any_split_gives_what_one_piece_gives(octets, sizes):
    whole, *ends = outcome(True, [octets])
    assert outcome(True, cut(octets, sizes)) == (whole, *ends)
    for reads in ([octets], cut(octets, sizes)):
        framed, *others = outcome(False, reads)  # a read ends a chunk of 256 MiB or more for the other side
        assert others == ends and outcome(True, [framed])[0] == whole


def outcome(payload_only, reads):
    body, out, fault = new_body(payload_only=payload_only), b"", None
    try:
        for read in reads:
            out += body.take(read)
            while body.more or body.is_invalid:
                out += body.take(b"")
    except MalformedRequest as error:
        fault = str(error)
    return out, body.octets, body.trailing, body.is_complete, fault


def cut(octets, sizes):
    at, out = 0, []
    for size in sizes:
        out.append(octets[at : at + size])
        at += size
    return [*out, octets[at:]]


BAD = {
    "bare CR in an extension": b"1;a\rb\r\nx\r\n",
    "bare LF in an extension": b"1;a\nb\r\nx\r\n",
    "NUL in an extension": b"1;a\0b\r\nx\r\n",
    "DEL in an extension": b"1;a\x7fb\r\nx\r\n",
    "escape in an extension": b"1;a\x1b[0m\r\nx\r\n",
    "long extension": b"1;" + b"a" * MAX_LINE + b"\r\nx\r\n",
    "endless extension": b"1;" + b"a" * MAX_LINE,
    "endless size": b"0" * MAX_LINE,
    "17 digits": b"0" * 17 + b"\r\n",
    "no size": b"\r\n",
    "an extension alone": b";a\r\n",
    "a space before the size": b" 1\r\nx\r\n",
    "an underscore": b"1_0\r\n",
    "0x": b"0x1\r\nx\r\n",
    "minus": b"-1\r\n",
    "bare LF": b"1\nx\r\n",
    "CR CR LF": b"1\r\r\nx\r\n",
    "data too long": b"1\r\nxy\r\n",
    "data ends with LF": b"1\r\nx\n",
    "data ends with CR": b"1\r\nx\rx",
}


@pytest.mark.parametrize("before", [b"", b"1\r\na\r\n", b"2;x\r\nab\r\n" * 3])
@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_every_chunk_is_checked(octets, before):
    for payload_only in (False, True):
        for reads in ([before + octets], [before, octets], one_by_one(before + octets)):
            with pytest.raises(MalformedRequest, match=r"^the body has a chunk "):
                take_all(new_body(payload_only=payload_only), *reads)


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_the_data_in_front_of_a_fault_is_returned_before_the_error(octets):
    for payload_only in (False, True):
        body = new_body(payload_only=payload_only)
        out = body.take(b"1\r\na\r\n2;x\r\nbc\r\n" + octets)
        assert out.startswith(b"abc" if payload_only else b"1\r\na\r\n2\r\nbc\r\n")
        assert body.is_invalid and not body.more and not body.verbatim
        for _ in range(2):
            with pytest.raises(MalformedRequest, match=r"^the body has a chunk "):
                body.take(b"")


@pytest.mark.parametrize(
    "octets",
    [
        *(b"\n", b"X\r\n\r\n", b"X : y\r\n\r\n", b"X: a\0b\r\n\r\n", b"X: a\rb\r\n\r\n", b"X: a\n\r\n"),
        *(b"X: a\r\n b\r\n\r\n", b": a\r\n\r\n", b"a: b\r\n" * 102, b"X: " + b"a" * MAX_HEAD),
    ],
)
def test_every_trailer_is_checked(octets):
    for reads in ([b"0\r\n" + octets], one_by_one(b"0\r\n" + octets)):
        with pytest.raises(MalformedRequest, match=r"^the body has .*trailer field"):
            take_all(new_body(), *reads)


def test_trailer_fields_are_filtered():
    octets = b"0\r\nDigest: x\r\nTransfer-Encoding: y\r\nX-Mine: z\r\n\r\n"

    def kept(fields):
        return trailer_fields(fields, frozenset({b"x-mine"}))

    for trailers, found in ((kept, b"Digest: x\r\n"), (None, b"")):
        body = ChunkedBody(MalformedRequest, "the body", trailers)
        assert body.take(octets) == b"0\r\n" + found + b"\r\n" and body.is_complete


def test_one_turn_reads_a_bounded_number_of_chunks():
    chunk = b"10\r\n0123456789abcdef\r\n"
    body = new_body()
    taken = [body.take(chunk * (3 * CHUNKS_PER_TURN) + b"0\r\n\r\n")]
    while body.more:
        taken.append(body.take(b""))
    assert taken == [chunk * CHUNKS_PER_TURN] * 3 + [b"0\r\n\r\n"]


def test_bytes_received_between_two_turns_are_read_behind_the_others():
    chunk = b"1\r\nx\r\n"
    body = new_body()
    out = body.take(chunk * (CHUNKS_PER_TURN + 1) + b"2\r\n")
    assert body.more
    out += body.take(b"ab\r\n0\r\n\r\n")
    assert out == chunk * (CHUNKS_PER_TURN + 1) + b"2\r\nab\r\n0\r\n\r\n" and body.is_complete


def test_a_chunk_passes_as_it_is_received():
    body = new_body()
    assert body.take(b"fffffff\r\n") == b"fffffff\r\n" and body.left == MAX_PLAIN_SIZE + 2
    for _ in range(3):
        octets = b"x" * 1000
        assert body.take(octets) is octets and not body.more and body.verbatim


@pytest.mark.parametrize("size", [b"10000000", b"f" * 16, b"0ffffffff;a"])
def test_a_huge_chunk_passes_as_many(size):
    """A receiver with small integers must not take it for a small chunk."""
    body = new_body()
    assert body.take(size + b"\r\n") == b""
    for _ in range(3):
        assert body.take(b"x" * 1000) == b"3e8\r\n" + b"x" * 1000 + b"\r\n" and not body.verbatim
    body.left = 3
    assert body.take(b"y\r\n2\r\nab\r\n") == b"1\r\ny\r\n2\r\nab\r\n" and body.verbatim


@pytest.mark.parametrize(
    "octets",
    [
        *(b"8\r\n12345678\r\n1\r\nx\r\n", b"1\r\nx\r\n" * 9, b"f\r\n123456789"),
        *(b"9\r\n123456789\r\n0\r\n\r\n", b"9\r\n123456789\r\nZZ\r\n", b"9\r\n123456789 "),
    ],
)
def test_a_body_over_its_maximum_is_refused(octets):
    for reads in ([octets], one_by_one(octets)):
        body = new_body(max_body=8)
        with pytest.raises(BodyTooLarge, match="the body has more than 8 bytes"):
            take_all(body, *reads)
        with pytest.raises(BodyTooLarge):
            body.take(b"")
    assert take_all(new_body(max_body=8), b"8\r\n12345678\r\n0\r\n\r\n").endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "octets", [b"", b"1", b"1\r\n", b"1\r\nx", b"1\r\nx\r\n", b"0\r\n", b"0\r\nA: b\r\n"]
)
def test_an_end_before_the_last_chunk_is_a_loss(octets):
    for clean in (True, False):
        body = new_body()
        body.take(octets)
        with pytest.raises(UpstreamLost, match="ended the connection before" if clean else "reset before"):
            body.end(clean)


def tiny(size):
    return b"%x\r\n%b\r\n" % (size, b"x" * size)


@pytest.mark.parametrize("size", [1, 2, MIN_MEAN_SIZE - 1])
def test_a_flood_of_tiny_chunks_is_refused(size):
    with pytest.raises(MalformedRequest, match=f"less than {MIN_MEAN_SIZE} bytes each"):
        take_all(new_body(), *[tiny(size) * 1000] * (CHUNKS_PER_CHECK // 1000 + 2))


@pytest.mark.parametrize("max_body", [None, CHUNKS_PER_CHECK, CHUNKS_PER_CHECK - CHUNKS_PER_TURN])
@pytest.mark.parametrize("payload_only", [False, True])
def test_a_flood_is_refused_in_the_call_that_ends_the_body(max_body, payload_only):
    body = new_body(max_body=max_body, payload_only=payload_only)
    octets = body.take(tiny(1) * (CHUNKS_PER_CHECK - 1) + b"0\r\n\r\n")
    too_large = max_body is not None and max_body < CHUNKS_PER_CHECK - 1
    for _ in range(2):
        with pytest.raises(BodyTooLarge if too_large else MalformedRequest):
            while not body.is_complete:
                octets += body.take(b"")
    assert len(octets) == (CHUNKS_PER_CHECK - CHUNKS_PER_TURN) * (1 if payload_only else len(tiny(1)))
    assert body.is_invalid and not body.is_complete and not body.more


def test_a_body_of_tiny_chunks_that_is_no_flood_passes():
    """A page whose server sends each letter in a chunk of its own."""
    octets = tiny(1) * (CHUNKS_PER_CHECK - CHUNKS_PER_TURN)
    assert take_all(new_body(), octets) == octets


def test_small_chunks_that_are_not_tiny_pass():
    reads = [tiny(MIN_MEAN_SIZE) * 1000] * 40
    assert take_all(new_body(), *reads) == b"".join(reads)


def test_a_stream_of_events_may_have_tiny_chunks_without_end():
    """Each read has one or a few of the chunks."""
    body = new_body()
    for _ in range(CHUNKS_PER_CHECK):
        assert body.take(tiny(1) * 3) == tiny(1) * 3

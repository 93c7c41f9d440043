"""A chunked body: one reading of it, little work for many chunks, and an end to a flood of tiny ones."""

import pytest

from esxiproxy.core.errors import MalformedRequest, UpstreamInvalid
from esxiproxy.core.http.chunks import CHUNKS_PER_CHECK, CHUNKS_PER_TURN, MAX_LINE, MIN_MEAN_SIZE, Chunks
from esxiproxy.core.http.fields import rewriter_for
from esxiproxy.core.http.forwarding import Forwarding
from esxiproxy.core.http.head import MAX_HEAD, parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Upstream


def taken(*reads):
    """What comes of these reads, each taken to its end."""
    chunks, out = Chunks(MalformedRequest, "the body"), b""
    for octets in reads:
        chunks.feed(octets)
        out += chunks.take()
        while chunks.more or chunks.is_invalid:
            out += chunks.take()
    return out


def one_by_one(octets):
    return [octets[i : i + 1] for i in range(len(octets))]


GOOD = {
    "one": (b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    "joined": (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    "none": (b"0\r\n\r\n", b"0\r\n\r\n"),
    "capitals and zeros": (b"000A\r\n0123456789\r\n000\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"),
    "extensions": (b'1;a=b;c="d e\t"\r\nx\r\n1 ;\xe9\r\ny\r\n0;z\r\n\r\n', b"2\r\nxy\r\n0\r\n\r\n"),
    "trailers": (b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n"),
    "line ends as data": (b"4\r\n\r\n0\r\r\n0\r\n\r\n", b"4\r\n\r\n0\r\r\n0\r\n\r\n"),
    "something behind it": (b"1\r\nx\r\n0\r\n\r\nGET /", b"1\r\nx\r\n0\r\n\r\nGET /"),
}


@pytest.mark.parametrize(("octets", "read"), GOOD.values(), ids=GOOD.keys())
def test_a_body_is_read_in_one_way(octets, read):
    assert taken(octets) == read


@pytest.mark.parametrize("octets", [each for each, _ in GOOD.values() if each.endswith(b"\r\n\r\n")])
def test_a_body_is_the_same_wherever_it_is_cut(octets):
    whole = taken(octets)
    for cut in range(len(octets)):
        pieces = taken(octets[:cut], octets[cut:])
        assert taken(pieces) == whole
    assert taken(taken(*one_by_one(octets))) == whole


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
    for reads in ([before + octets], [before, octets], one_by_one(before + octets)):
        with pytest.raises(MalformedRequest, match=r"^the body has a chunk "):
            taken(*reads)


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_the_data_in_front_of_a_fault_is_returned_before_the_error(octets):
    chunks = Chunks(MalformedRequest, "the body")
    chunks.feed(b"1\r\na\r\n2;x\r\nbc\r\n" + octets)
    assert chunks.take().partition(b"\r\n")[2].startswith(b"abc")
    assert chunks.is_invalid and not chunks.more
    for _ in range(2):
        with pytest.raises(MalformedRequest, match=r"^the body has a chunk "):
            chunks.take()


def test_the_client_gets_the_data_before_a_bad_chunk():
    head = parse(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    request = Request("s", "l", PeerAddress("192.0.2.7", 1), False, head)
    forwarding = Forwarding(request)
    forwarding.take_request(b"")
    forwarding.begin(b"/", ((b"Host", b"u"),), rewriter_for(request, Upstream("u", "u", 80, secure=False)))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nX\r\n"
    with pytest.raises(UpstreamInvalid, match="has a chunk"):
        forwarding.take_answer(answer)
    assert forwarding.left().endswith(b"\r\n\r\n3\r\nabc\r\n") and forwarding.octets_down == 3


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
            taken(*reads)


def test_one_turn_reads_a_bounded_number_of_chunks():
    chunks = Chunks(MalformedRequest, "the body")
    chunks.feed(b"10\r\n0123456789abcdef\r\n" * (3 * CHUNKS_PER_TURN) + b"0\r\n\r\n")
    sizes = []
    while chunks.more or not sizes:
        sizes.append(int(chunks.take().partition(b"\r\n")[0], 16))
    assert sizes == [16 * CHUNKS_PER_TURN] * 3 + [0]


def test_a_large_chunk_passes_as_it_comes():
    chunks = Chunks(MalformedRequest, "the body")
    chunks.feed(b"10000000\r\n")
    assert chunks.take() == b""
    for _ in range(3):
        chunks.feed(b"x" * 1000)
        assert chunks.take() == b"3e8\r\n" + b"x" * 1000 + b"\r\n" and not chunks.more


def tiny(size):
    return b"%x\r\n%b\r\n" % (size, b"x" * size)


@pytest.mark.parametrize("size", [1, 2, MIN_MEAN_SIZE - 1])
def test_a_flood_of_tiny_chunks_is_refused(size):
    with pytest.raises(MalformedRequest, match=f"less than {MIN_MEAN_SIZE} bytes each"):
        taken(*[tiny(size) * 1000] * (CHUNKS_PER_CHECK // 1000 + 2))


def test_a_flood_is_refused_in_the_call_that_ends_the_body():
    body = Chunks(MalformedRequest, "the body")
    body.feed(tiny(1) * (CHUNKS_PER_CHECK - 1) + b"0\r\n\r\n")
    octets = b"".join(body.take() for _ in range(CHUNKS_PER_CHECK // CHUNKS_PER_TURN - 1))
    assert octets.count(b"x") == CHUNKS_PER_CHECK - CHUNKS_PER_TURN
    for _ in range(2):
        with pytest.raises(MalformedRequest):
            body.take()


def test_a_body_of_tiny_chunks_that_is_no_flood_passes():
    """A page whose server sends each letter in a chunk of its own."""
    assert (
        taken(tiny(1) * (CHUNKS_PER_CHECK - CHUNKS_PER_TURN)).count(b"x")
        == CHUNKS_PER_CHECK - CHUNKS_PER_TURN
    )


def test_small_chunks_that_are_not_tiny_pass():
    assert taken(*[tiny(MIN_MEAN_SIZE) * 1000] * 40).count(b"x") == 40_000 * MIN_MEAN_SIZE


def test_a_stream_of_events_may_have_tiny_chunks_for_ever():
    """One or a few of them a read: nobody waits for their end."""
    assert taken(*[tiny(1) * 3] * CHUNKS_PER_CHECK).count(b"x") == 3 * CHUNKS_PER_CHECK

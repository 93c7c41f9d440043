"""Bodies that have a length, or end with the connection: their bytes for the other side, and their end."""

import pytest

from esxiproxy.core.errors import UpstreamLost
from esxiproxy.core.http.body import FixedBody, OpenBody


def test_a_body_of_a_length_passes_as_the_same_object():
    body = FixedBody(300)
    for size in (100, 200):
        assert not body.is_complete and body.verbatim
        octets = b"x" * size
        assert body.take(octets) is octets
    assert body.is_complete and not body.verbatim
    assert (body.octets, body.left, body.trailing) == (300, 0, b"")


@pytest.mark.parametrize("cut", range(8))
def test_nothing_behind_the_length_is_passed_on(cut):
    octets = b"abcGET /"
    body = FixedBody(3)
    assert body.take(octets[:cut]) + body.take(octets[cut:]) == b"abc"
    assert body.is_complete and (body.octets, body.trailing) == (3, b"GET /")
    assert body.take(b" more") == b"" and body.trailing == b"GET / more"


def test_a_body_of_nothing_is_complete_at_once():
    body = FixedBody(0)
    assert body.is_complete and not body.verbatim and body.end(clean=False) == b""
    assert body.take(b"x") == b"" and body.trailing == b"x" and body.octets == 0


@pytest.mark.parametrize("clean", [True, False])
def test_an_end_within_the_length_is_a_loss(clean):
    body = FixedBody(3)
    body.take(b"ab")
    with pytest.raises(UpstreamLost, match="ended the connection before" if clean else "reset before"):
        body.end(clean)
    assert not body.is_complete


OPEN = {
    "for HTTP/1.1": (True, b"2\r\nab\r\n1\r\nc\r\n", b"0\r\n\r\n"),
    "for HTTP/1.0": (False, b"abc", b""),
}


@pytest.mark.parametrize(("chunked", "framed", "last"), OPEN.values(), ids=OPEN.keys())
def test_a_body_that_ends_with_the_connection(chunked, framed, last):
    body = OpenBody(chunked)
    assert body.take(b"ab") + body.take(b"") + body.take(b"c") == framed and body.octets == 3
    assert body.end(clean=True) == last and body.is_complete
    assert body.end(clean=True) == b""
    body = OpenBody(chunked)
    body.take(b"ab")
    with pytest.raises(UpstreamLost, match="reset before"):
        body.end(clean=False)
    assert not body.is_complete


@pytest.mark.parametrize(("chunked", "framed", "last"), OPEN.values(), ids=OPEN.keys())
def test_a_held_body_is_framed_when_it_is_released(chunked, framed, last):
    body = OpenBody(chunked, payload_only=True)
    assert body.take(b"ab") == b"ab"
    assert body.release(b"ab") + body.take(b"c") == framed
    assert body.end(clean=True) == last


def test_a_held_body_that_ends_gets_no_framing():
    body = OpenBody(True, payload_only=True)
    assert body.take(b"ab") == b"ab" and body.end(clean=True) == b"" and body.is_complete

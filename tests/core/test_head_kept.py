"""A reader on a kept connection, which remembers the last head: it reads the next as a fresh reader does."""

from __future__ import annotations

import pytest

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.head import HeadReader
from tests.core.test_head import BAD, head

FIELDS = b"X-A:  b c \t", b"Cookie: a=1", b"Cookie: b=2"
USUAL = head(b"GET /a HTTP/1.1", *FIELDS)
NEXT = {
    "equal": USUAL,
    "another target": head(b"GET /another?b=1 HTTP/1.1", *FIELDS),
    "another method": head(b"POST /a HTTP/1.1", *FIELDS),
    "an unusual method": head(b"PROPFIND /a HTTP/1.1", *FIELDS),
    "another field": head(b"GET /a HTTP/1.1", b"X-B: c", *FIELDS),
    "a field less": head(b"GET /a HTTP/1.1", *FIELDS[:2]),
    "another value": head(b"GET /a HTTP/1.1", *FIELDS[:2], b"Cookie: b=3"),
    "HTTP/1.0": head(b"GET /a HTTP/1.0", *FIELDS),
    "HTTP/1.2": head(b"GET /a HTTP/1.2", *FIELDS),
    "absolute-form": head(b"GET http://h/a HTTP/1.1", *FIELDS),
    "absolute-form of another host": head(b"GET http://other/a HTTP/1.1", *FIELDS),
    "a fragment": head(b"GET /a#b HTTP/1.1", *FIELDS),
    "a long target": head(b"GET /%b HTTP/1.1" % (b"a" * 8192), *FIELDS),
    "CONNECT": head(b"CONNECT h:1 HTTP/1.1", *FIELDS),
    "TRACE": head(b"TRACE /a HTTP/1.1", *FIELDS),
}


def outcome(reader, raw):
    try:
        return reader.feed(raw)
    except SessionError as error:
        return type(error), str(error), error.status_code


def kept(*heads):
    """Return a reader that has read these heads on one connection."""
    reader = HeadReader()
    for each in heads:
        outcome(reader, each)
        reader.restart()
    return reader


@pytest.mark.parametrize("name", NEXT)
@pytest.mark.parametrize(
    "before", [USUAL, head(b"GET /a HTTP/1.0", *FIELDS), head(b"OPTIONS * HTTP/1.1", *FIELDS)]
)
def test_the_next_head_is_read_as_the_first(before, name):
    raw = NEXT[name]
    assert outcome(kept(before, before), raw + b"rest") == outcome(HeadReader(), raw + b"rest")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_head_is_refused_again(name):
    raw, status = BAD[name]
    refused = outcome(kept(USUAL, USUAL), raw)
    assert refused == outcome(HeadReader(), raw) and refused[2] == status


def test_equal_field_lines_are_read_once():
    reader = kept(USUAL, USUAL)
    same, _ = reader.feed(NEXT["another target"])
    assert same.target == b"/another?b=1" and same.raw == NEXT["another target"]
    assert same.named == {b"host": [b"h"], b"x-a": [b"b c"], b"cookie": [b"a=1", b"b=2"]}
    again, _ = reader.feed(USUAL)
    assert again.fields is same.fields and again.named is same.named
    other, _ = reader.feed(NEXT["another value"])
    assert other.values(b"cookie") == [b"a=1", b"b=3"]


def test_a_head_in_pieces_is_read_the_same():
    reader = kept(USUAL, USUAL)
    raw = NEXT["another target"]
    assert reader.feed(raw[:9]) is None and reader.feed(raw[9:-1]) is None
    assert reader.feed(raw[-1:]) == HeadReader().feed(raw)


def test_a_large_head_is_not_remembered():
    large = head(b"GET /a HTTP/1.1", b"X: " + b"x" * 4096)
    reader = kept(large, large)
    first, _ = reader.feed(large)
    second, _ = reader.feed(large)
    assert first == second and first.fields is not second.fields

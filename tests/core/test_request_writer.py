"""The heads of the requests on one upstream connection: each is the one that is written without a memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from esxiproxy.core.http.head import parse
from esxiproxy.core.http.head_writer import request_head
from esxiproxy.core.http.message import forwarded_request
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.request_writer import RequestWriter
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal, Upstream

UPSTREAM = Upstream("u", "u", 80, secure=False)
ALICE = Principal("alice")


def request(session="0001", method=b"GET", fields=(), version=b"1.1", **more):
    lines = [b"%b /page HTTP/%b" % (method, version), b"Host: h", *fields, b"", b""]
    values = {"forwarded_for": ("192.0.2.7",), "public_host": b"h"} | more
    return Request(session, "l", PeerAddress("192.0.2.7", 1), False, parse(b"\r\n".join(lines)), **values)


def following(before, session="0002", **more):
    """Return the next request of a client that sends the same field lines again."""
    return replace(before, session=session, **more)


def anew(asked, target=b"/page", principal=ALICE, upstream=UPSTREAM):
    return request_head(asked.head.method, target, forwarded_request(asked, upstream, principal))


@pytest.fixture
def first():
    return request(fields=(b"Accept: */*", b"Origin: http://h", b"TE: trailers", b"Content-Length: 3"))


@pytest.fixture
def writer(first):
    """Return a writer that has written the first request."""
    writer = RequestWriter(UPSTREAM)
    assert writer.head(first, b"/page", ALICE) == anew(first)
    return writer


def test_the_next_request_has_its_own_target_and_session(writer, first):
    asked = following(first)
    written = writer.head(asked, b"/other?a=1", ALICE)
    assert written == anew(asked, b"/other?a=1")
    assert b"GET /other?a=1 HTTP/1.1\r\n" in written and b"\r\nX-Request-ID: 0002\r\n" in written
    assert b"0001" not in written


@pytest.mark.parametrize(
    "changed",
    [
        {"secure": True},
        {"client": PeerAddress("192.0.2.8", 1), "forwarded_for": ()},
        {"forwarded_for": ("192.0.2.7", "192.0.2.9")},
        {"public_host": b"other"},
        {"other_host": b"h:8080", "public_host": b"h"},
    ],
)
def test_another_fact_of_the_client_is_written(writer, first, changed):
    asked = following(first, **changed)
    assert writer.head(asked, b"/page", ALICE) == anew(asked)
    assert writer.head(first, b"/page", ALICE) == anew(first)


def test_another_principal_loses_its_own_credentials(writer, first):
    bob = Principal("bob", consumed=frozenset({b"accept"}))
    assert b"Accept" in writer.head(following(first), b"/page", ALICE)
    written = writer.head(following(first), b"/page", bob)
    assert written == anew(following(first), principal=bob) and b"Accept" not in written


@pytest.mark.parametrize("fields", [(), (b"Accept: text/html",), (b"Connection: accept", b"Accept: */*")])
def test_other_fields_are_written(writer, fields):
    asked = request("0002", fields=fields)
    assert writer.head(asked, b"/page", ALICE) == anew(asked)


def test_another_version_is_in_via(writer, first):
    head = replace(first.head, version=(1, 0))
    assert head.fields is first.head.fields
    asked = following(first, head=head)
    assert writer.head(asked, b"/page", ALICE) == anew(asked)


def test_max_forwards_is_counted_down_for_options_alone():
    fields = (b"Max-Forwards: 5",)
    page = request(fields=fields)
    writer = RequestWriter(UPSTREAM)
    assert b"Max-Forwards: 5" in writer.head(page, b"/page", ALICE)
    for method, hops in ((b"OPTIONS", b"4"), (b"GET", b"5"), (b"OPTIONS", b"4")):
        asked = following(page, head=replace(page.head, method=method))
        assert b"Max-Forwards: " + hops in writer.head(asked, b"/page", ALICE)


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/a\n", b"/\0", b"/\xc3\xa9"])
def test_a_target_with_an_illegal_byte_is_never_sent(writer, first, target):
    with pytest.raises(ValueError, match="illegal byte"):
        writer.head(following(first), target, ALICE)
    with pytest.raises(ValueError, match="illegal byte"):
        RequestWriter(UPSTREAM).head(first, target, ALICE)


def test_a_large_head_is_not_remembered(writer):
    large = request(fields=(b"X: " + b"x" * 4096,))
    assert writer.head(large, b"/page", ALICE) == anew(large)
    asked = following(large)
    assert writer.head(asked, b"/page", ALICE) == anew(asked)

"""The place of a link in a request: found as it was put there, and nowhere else."""

import pytest

from esxiproxy.core.http.head import parse
from esxiproxy.core.http.link_place import LinkPlace, PlaceKind
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress

PATH = LinkPlace(PlaceKind.PATH, b"/c/")
QUERY = LinkPlace(PlaceKind.QUERY, b"link")
COOKIE = LinkPlace(PlaceKind.COOKIE, b"console")
SUBPROTOCOL = LinkPlace(PlaceKind.SUBPROTOCOL)


def request(target, *lines):
    head = parse(b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: h", *lines, b"", b"")))
    return Request("s", "l", PeerAddress("192.0.2.7", 1), True, head)


FOUND = {
    (PATH, b"/c/L1"): b"L1",
    (PATH, b"/c/L1?token=x&link=L2"): b"L1",
    (PATH, b"/c/L1/ticket/x"): b"L1/ticket/x",
    (PATH, b"/c/../x"): b"../x",
    (PATH, b"/c/%4c1"): b"%4c1",
    (PATH, b"/c/"): None,
    (PATH, b"/c"): None,
    (PATH, b"/C/L1"): None,
    (PATH, b"//c/L1"): None,
    (PATH, b"/x/c/L1"): None,
    (PATH, b"/?/c/L1"): None,
    (QUERY, b"/?link=L1"): b"L1",
    (QUERY, b"/any/path?a=b&link=L1&c=d"): b"L1",
    (QUERY, b"/?link=L1&link=L2"): b"L1",
    (QUERY, b"/?link=&link=L2"): None,
    (QUERY, b"/?link"): None,
    (QUERY, b"/?xlink=L1"): None,
    (QUERY, b"/?Link=L1"): None,
    (QUERY, b"/link=L1"): None,
    (QUERY, b"/?a;link=L1"): None,
}


@pytest.mark.parametrize("case", FOUND)
def test_a_link_is_found_in_a_target(case):
    place, target = case
    assert place.find(request(target)) == FOUND[case]


COOKIES = {
    (b"Cookie: console=L1",): b"L1",
    (b"Cookie: a=b; console=L1; c=d",): b"L1",
    (b"Cookie: a=b", b"Cookie: console=L1;console=L2"): b"L1",
    (b"Cookie: xconsole=L1; a=console=L1",): None,
    (b"Cookie: console",): None,
    (b"X-Cookie: console=L1",): None,
    (): None,
}


@pytest.mark.parametrize("lines", COOKIES)
def test_a_link_is_found_in_a_cookie(lines):
    assert COOKIE.find(request(b"/", *lines)) == COOKIES[lines]


def test_a_link_is_found_among_the_subprotocols():
    lines = b"Sec-WebSocket-Protocol: binary", b"Sec-WebSocket-Protocol: base64 ,esxiproxy.link.a.b.c"
    assert SUBPROTOCOL.find(request(b"/", *lines)) == b"a.b.c"
    assert SUBPROTOCOL.find(request(b"/", lines[0])) is None


@pytest.mark.parametrize(
    ("place", "url", "field", "secret"),
    [
        (PATH, "https://c.example.com/p/c/L1", "", ("path", b"/c/")),
        (QUERY, "https://c.example.com/p/?link=L1", "", ("query", b"link")),
        (COOKIE, "https://c.example.com/p/", "console=L1", ("cookie", b"console")),
        (SUBPROTOCOL, "https://c.example.com/p/", "esxiproxy.link.L1", None),
    ],
)
def test_a_link_is_written_where_it_is_found(place, url, field, secret):
    assert (place.url("https://c.example.com/p", "L1"), place.field("L1")) == (url, field)
    assert place.secret == secret

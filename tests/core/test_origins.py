"""The origins that may open a console: the key of the configuration and the check of a request."""

import pytest

from esxiproxy.core.config import values
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.errors import OriginRefused
from esxiproxy.core.http.head import HeadReader
from esxiproxy.core.http.origins import AllowedOrigins, AnyOrigin
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress


def request(*origins: bytes, secure: bool = True, host: bytes = b"consoles.example") -> Request:
    fields = b"".join(b"Origin: " + origin + b"\r\n" for origin in origins)
    read = HeadReader().feed(b"GET /ticket/x HTTP/1.1\r\nHost: " + host + b"\r\n" + fields + b"\r\n")
    assert read is not None
    return Request("s", "l", PeerAddress("198.51.100.7", 1), secure, read[0], public_host=host)


def is_accepted(rule: str, asked: Request) -> bool:
    try:
        values.origins(rule).check(asked)
    except OriginRefused:
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "origin"),
    [
        ("any", b"https://evil.example"),
        ("any", b"null"),
        ("same", b"https://consoles.example"),
        ("same", b"HTTPS://Consoles.Example:443"),
        ("https://portal.example.com", b"https://portal.example.com"),
        ("https://Portal.example.com:443", b"https://portal.example.com"),
        ("https://portal.example.com:8443", b"https://portal.example.com:8443"),
        ("http://[2001:db8::1]", b"http://[2001:DB8::1]:80"),
        ("http://[2001:db8:0:0::1]", b"http://[2001:db8::1]"),
        ("https://portal.example.com:0443", b"https://portal.example.com"),
        ("same, https://portal.example.com", b"https://consoles.example"),
        ("same, https://portal.example.com", b"https://portal.example.com"),
    ],
)
def test_a_page_of_an_allowed_origin_is_accepted(rule: str, origin: bytes) -> None:
    assert is_accepted(rule, request(origin))


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"",
        b"https://evil.example",
        b"http://consoles.example",
        b"https://consoles.example:8443",
        b"https://consoles.example.",
        b"https://consoles.example.evil.example",
        b"https://evil.example/https://consoles.example",
        b"https://user@consoles.example",
        b"https://consoles.example https://evil.example",
        b"wss://consoles.example",
        b"//consoles.example",
        b"consoles.example",
        b"https://portal.example.com:444",
        b"http://portal.example.com",
        b"https://xportal.example.com",
        b"https://c\xc3\xb6nsoles.example",
    ],
)
def test_a_page_of_another_origin_is_refused(origin: bytes) -> None:
    assert not is_accepted("same, https://portal.example.com", request(origin))


def test_the_own_origin_is_refused_when_it_is_not_listed() -> None:
    assert not is_accepted("https://portal.example.com", request(b"https://consoles.example"))


def test_two_origin_fields_are_refused() -> None:
    own = b"https://consoles.example"
    assert not is_accepted("same", request(own, own))


def test_a_request_without_an_origin_is_accepted() -> None:
    assert is_accepted("same", request())


def test_the_value_any_accepts_every_origin() -> None:
    assert values.origins("any") == AnyOrigin()
    assert values.origins("same") == AllowedOrigins()


@pytest.mark.parametrize(
    "text",
    [
        "any, same",
        "null",
        "*",
        "portal.example.com",
        "https://portal.example.com/",
        "https://user@portal.example.com",
        "https://*.example.com",
        "https://",
        "wss://portal.example.com",
        "same,",
        "https://portal.example.com:123456",
        "https://portal.example.com:65536",
        "https://portal.example.com:0",
        "https://portal.example.com:",
        "https://portal.example.com?x",
        "https://[2001:db8::zz]",
        "https://192.0.2.300",
        "https://p\u00f6rtal.example.com",
    ],
)
def test_a_value_that_is_no_origin_is_a_problem(text: str) -> None:
    with pytest.raises(BadValue):
        values.origins(text)

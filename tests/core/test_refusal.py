"""The media type of a refusal: a line of text for people, a JSON object for scripts."""

import json

import pytest

from esxiproxy.core.errors import AccessDenied, RouteNotFound, UpgradeRefused, UpstreamRefused
from esxiproxy.core.http.head import HeadReader
from esxiproxy.core.http.refusal import refusal
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress


def answer(error, *accept):
    """Return the fields, in lower case, and the body of a refusal for a client that sends these fields."""
    fields = b"".join(b"Accept: " + value + b"\r\n" for value in accept)
    read = HeadReader().feed(b"GET /ticket/secret HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n")
    assert read is not None
    request = Request("0123456789abcdef", "l", PeerAddress("198.51.100.7", 1), True, read[0])
    head, _, body = refusal(error, request).partition(b"\r\n\r\n")
    lines = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return {name.lower(): value for name, value in lines}, body


@pytest.mark.parametrize(
    "accept",
    [b"application/json", b"text/html;q=0.1, Application/JSON; q=0.5", b"application/json;charset=utf-8"],
)
def test_a_script_that_accepts_json_gets_an_object(accept):
    fields, body = answer(RouteNotFound("no host of this name"), accept)
    assert fields[b"content-type"] == b"application/json" and fields[b"vary"] == b"Accept"
    assert int(fields[b"content-length"]) == len(body)
    assert json.loads(body) == {
        "error": "RouteNotFound",
        "status": 404,
        "message": "no host of this name",
        "session": "0123456789abcdef",
    }


@pytest.mark.parametrize("accept", [b"*/*", b"text/html", b"application/json;q=0", b"application/jsonl", b""])
def test_every_other_client_gets_a_line_of_text(accept):
    fields, body = answer(RouteNotFound("no host of this name"), accept)
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert body == b"404 Not Found: no host of this name\n"


def test_the_object_contains_neither_the_ticket_nor_the_names_of_upstreams():
    _, body = answer(UpstreamRefused("esxi1.lan:443 refused the connection"), b"application/json")
    assert json.loads(body)["message"] == "The upstream refuses TCP connections."
    assert b"secret" not in body


def test_the_refusal_of_an_upstream_is_passed_on():
    error = UpgradeRefused(404, b"Not Found", ((b"Content-Type", b"text/html"),), b"<p>no</p>")
    fields, body = answer(error, b"application/json")
    assert (fields[b"content-type"], body) == (b"text/html", b"<p>no</p>")


@pytest.mark.parametrize("value", [b"close", b"Keep-Alive"])
def test_a_refusal_has_one_connection(value):
    error = AccessDenied("no", status=401)
    error.fields = ((b"connection", value),)
    read = HeadReader().feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    request = Request("0123456789abcdef", "l", PeerAddress("198.51.100.7", 1), True, read[0])
    assert refusal(error, request).lower().count(b"\r\nconnection: close\r\n") == 1
    assert refusal(error, request).lower().count(b"\r\nconnection:") == 1

"""Patterns, parsers and readers for foreign bytes take a time that is linear in their number."""

import re
from contextlib import suppress
from functools import partial
from ipaddress import ip_network

import pytest

from esxiproxy.core.errors import MalformedRequest, OriginRefused, RouteNotFound
from esxiproxy.core.http.answer_head import AnswerHeadReader, parse_answer, take_usual_head
from esxiproxy.core.http.chunked_body import ChunkedBody
from esxiproxy.core.http.forwarded import TrustedProxies, forwarded_client
from esxiproxy.core.http.head import MAX_HEAD, HeadReader, RequestHead, tokens
from esxiproxy.core.http.message import forwarded_answer, trailer_fields
from esxiproxy.core.http.origins import AllowedOrigins
from esxiproxy.core.http.paths import ambiguous, check_path, plain_path
from esxiproxy.core.http.refusal import refusal
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import ResponseRewriter
from esxiproxy.core.http.via import check_loop
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.proxy_protocol import SIGNATURE, ProxyHeaderReader
from esxiproxy.core.redaction import redact, redact_text
from esxiproxy.core.session.connection_limits import client_network
from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.core.websocket.handshake import check_acceptance, upgrade_of
from esxiproxy.doctor.frames import FrameReader
from esxiproxy.doctor.sanitize import Sanitizer
from esxiproxy.doctor.url import ConsoleUrl
from tests.support.growth import ENDINGS, UNITS, grows, patterns, runs, seconds

PATTERNS = patterns(
    "esxiproxy.core",
    "esxiproxy.net",
    "esxiproxy.nginx",
    "esxiproxy.doctor",
    "esxiproxy.ops",
    "esxiproxy.routers",
    "esxiproxy.ticket_rewriting",
    "esxiproxy.authenticators",
    "esxiproxy.vsphere",
)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_linear(name):
    call = PATTERNS[name]
    for make in runs(call.__self__):
        assert not grows(call, make, 1000), (name, make(40))


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (rb"([!-~]+):[ \t]*(.*?)[ \t]*", "fullmatch"),
        (rb"\s+x", "search"),
        (rb"a[^=]*=", "search"),
    ],
)
def test_the_measurement_finds_a_pattern_that_is_not(pattern, method):
    compiled = re.compile(pattern, re.DOTALL)
    assert any(grows(getattr(compiled, method), make, 1000) for make in runs(compiled))


HEAD = b"GET /ticket/abc HTTP/1.1\r\nHost: h\r\n"
PEER = PeerAddress("10.0.0.1", 1)
TRUST = TrustedProxies((ip_network("10.0.0.0/8"),))
VIEW = ResponseRewriter(b"https", b"h", frozenset({b"h:443"}), b"https", b"proxy.example")


def head(name):
    """Return a checked head with this value in a field."""
    return lambda run: RequestHead(b"", b"GET", b"/", (1, 1), ((b"Host", b"h"), (name, run)))


def read_head(start, run, step=None):
    octets = start + run + b"\r\n\r\n"
    reader = HeadReader()
    for place in range(0, len(octets), step or len(octets)):
        reader.feed(octets[place : place + (step or len(octets))])


def read_answer(run, step=None):
    octets, reader = b"HTTP/1.1 200 OK\r\n" + run + b"\r\n\r\n", AnswerHeadReader()
    for place in range(0, len(octets), step or len(octets)):
        reader.feed(octets[place : place + (step or len(octets))])
        reader.take()


def announce(start, step, run):
    octets, reader = start + run, ProxyHeaderReader()
    for place in range(0, len(octets), step):
        if reader.feed(octets[place : place + step]) is not None:
            return


def upgrade(name, run):
    fields = {b"Upgrade": b"websocket", b"Connection": b"Upgrade", b"Sec-WebSocket-Version": b"13"}
    fields[name] = run + b", websocket, upgrade"
    upgrade_of(RequestHead(b"", b"GET", b"/", (1, 1), tuple(fields.items())))


def origin(name, run):
    forwarded_client(head(name)(run), PEER, True, TRUST)


def chunked(start, end, run, step=None):
    octets, body = start + run + end, ChunkedBody(MalformedRequest, "the body", tuple)
    for place in range(0, len(octets), step or len(octets)):
        body.take(octets[place : place + (step or len(octets))])
        while body.more:
            body.take(b"")


def text(run):
    return run.decode("latin-1")


def refused_origin(value):
    with suppress(OriginRefused):
        AllowedOrigins().check(Request("s", "l", PEER, True, head(b"Origin")(value), public_host=b"h"))


def accepted(value):
    refusal(RouteNotFound(), Request("s", "l", PEER, True, head(b"Accept")(value)))


CALLS = {
    "a field's value": partial(read_head, HEAD + b"X: a"),
    "a field's name": partial(read_head, HEAD + b"X"),
    "a Host": partial(read_head, b"GET / HTTP/1.1\r\nHost: "),
    "a target": partial(read_head, b"GET /"),
    "an absolute target": partial(read_head, b"GET http://"),
    "a method": partial(read_head, b"G"),
    "a head byte by byte": partial(read_head, HEAD + b"X: a", step=1),
    "a target byte by byte": partial(read_head, b"GET /", step=1),
    "tokens": lambda run: tokens([run]),
    **{
        f"an opening's {name.decode()}": partial(upgrade, name)
        for name in (b"Connection", b"Upgrade", b"Origin", b"Sec-WebSocket-Key", b"Sec-WebSocket-Protocol")
    },
    **{
        f"{name.decode()} of a trusted proxy": partial(origin, name)
        for name in (
            b"Forwarded",
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"X-Forwarded-Host",
            b"X-Forwarded-Port",
        )
    },
    "a quoted Forwarded": lambda run: origin(b"Forwarded", b'for="' + run),
    "Via": lambda run: check_loop(head(b"Via")(run)),
    "a PROXY header": partial(announce, b"PROXY TCP4 ", 1),
    "a PROXY header of version 2 byte by byte": partial(announce, SIGNATURE + b"\x21\x11\x10\x00", 1),
    "a path": lambda run: ambiguous(b"/" + run),
    "a path as a lenient server takes it": lambda run: plain_path(b"/" + run),
    "a path below a prefix": lambda run: check_path(b"/ui/" + run, (b"/ui",)),
    "a target for the log": lambda run: redact(b"/" + run),
    "a query for the log": lambda run: redact(b"/x?token" + run),
    "a text for the log": lambda run: redact_text(text(run)),
    "a text with a ticket for the log": lambda run: redact_text(
        "GET /ticket/" + text(run) + " token=" + text(run)
    ),
    "many small quotes and elements in a text for the log": lambda run: redact_text(
        "a='" * len(run) + 'b="' * len(run) + "<token>" * len(run) + '"token":"' + text(run)
    ),
    "a text behind quotes and elements for the log": lambda run: redact_text(
        'a=\'b="<token>"token":"' + text(run)
    ),
    "an address": lambda run: client_network(text(run)),
    "an Origin": lambda run: refused_origin(b"https://" + run),
    "the own Origin": lambda run: refused_origin(b"https://h:" + run),
    "an Accept": lambda run: accepted(b"application/json" + run),
    "the weight of an Accept": lambda run: accepted(b"application/json;q" + run),
    "a Location": lambda run: VIEW.location(b"https://h" + run),
    "a Set-Cookie": lambda run: VIEW.cookie(b"a=b; " + run),
    "an answer's fields": lambda run: read_answer(b"X: a\r\n" + run),
    "an answer's value": lambda run: read_answer(b"Content-Length: " + run),
    "an answer's Connection as it is read": lambda run: read_answer(b"Connection: " + run),
    "a usual answer's value": lambda run: take_usual_head(b"HTTP/1.1 200 OK\r\nX: a" + run + b"\r\n\r\n"),
    "a usual answer's small fields": lambda run: take_usual_head(
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * len(run)
    ),
    "an answer's small fields": lambda run: read_answer(b"A:\r\n" * (len(run) // 8)),
    "an answer's small folded lines": lambda run: read_answer(b"A:\r\n" + b" \r\n" * len(run)),
    "an answer's head byte by byte": lambda run: read_answer(b"X: a" + run, step=1),
    "an answer's Connection": lambda run: forwarded_answer(
        parse_answer(b"HTTP/1.1 200 OK\r\nConnection: " + run + b"\r\n\r\n"), lambda: VIEW, "s"
    ),
    "trailers": lambda run: trailer_fields(((b"Connection", run), (b"X", run))),
    "the end of a chunked body": partial(chunked, b"0\r\nX: ", b"\r\n\r\n"),
    "trailers byte by byte": partial(chunked, b"0\r\nX: ", b"\r\n\r\n", step=1),
    "a chunk's extension": partial(chunked, b"1;", b"\r\na\r\n"),
    "a chunk byte by byte": partial(chunked, b"ffff\r\n", b"", step=1),
    "small chunks": lambda run: chunked(b"", b"", b"1\r\na\r\n" * len(run)),
    "small chunks to be changed": lambda run: chunked(b"", b"", b"01;\r\na\r\n" * len(run)),
    "a 101": lambda run: check_acceptance(b"1.1", ((b"Upgrade", run), (b"Connection", run)), b"", ()),
    "frames": lambda run: FrameWalker(masked=False).walk(run),
    "small frames": lambda run: FrameWalker(masked=True).walk(b"\x82\x80abcd" * len(run)),
    "the doctor's frames": lambda run: list(FrameReader().feed(run)),
    "the doctor's small frames": lambda run: list(FrameReader().feed(b"\x82\x00" * len(run))),
    "a URL of the doctor's": lambda run: ConsoleUrl.parse("wss://" + text(run)),
    "the doctor's target": lambda run: Sanitizer(ConsoleUrl.parse("wss://h/" + text(run))),
    "what a host says to the doctor": lambda run: Sanitizer(ConsoleUrl.parse("wss://h/ticket/abcdef")).text(
        text(run)
    ),
    "a field that the doctor shows": lambda run: Sanitizer(ConsoleUrl.parse("wss://h/")).fields(
        ((b"Location", run),)
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_reader_is_linear(name):
    # The cost of one with many steps depends on their number, and hardly on the unit.
    for unit in UNITS[:: 9 if "byte by byte" in name or "small" in name else 1]:
        for ending in ENDINGS[:2]:

            def make(size, unit=unit, ending=ending):
                return unit * (size // len(unit)) + ending

            assert not grows(CALLS[name], make, 1000), (unit, ending)


@pytest.mark.parametrize("filler", [b" ", b"a", b",", b"\t", b"a,", b"\x85"])
def test_the_whole_check_of_a_head_of_16_kib_is_cheap(filler):
    """Measured against a copy of the head, byte by byte: the check takes less than twice as long."""
    raw = HEAD + b"X: a" + filler * ((MAX_HEAD - 60) // len(filler)) + b"b\r\n\r\n"
    check = min(seconds(HeadReader().feed, raw) for _ in range(9))
    copy = min(seconds(lambda: [octet + 0 for octet in raw]) for _ in range(9))
    assert check < 2 * copy

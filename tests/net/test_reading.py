"""No head that is admitted is read in two ways: ours, h11's and Autobahn's readings are one."""

from contextlib import suppress

import h11
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from esxiproxy.core.edge import Edge, Http
from esxiproxy.core.errors import SessionError
from esxiproxy.core.handshake import upgrade_of
from esxiproxy.core.head import HeadReader
from esxiproxy.core.limits import Limits
from esxiproxy.core.quota import Quotas
from esxiproxy.net.admission import Admission
from esxiproxy.net.dispatch import ListenerFactory
from esxiproxy.net.frontend import Frontend
from esxiproxy.net.sessions import Sessions
from esxiproxy.state.memory import MemoryState
from tests.net.memory import Wire
from tests.net.scene import KEY, opening

TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12).map(str.encode)
TARGET = st.text([chr(octet) for octet in range(0x21, 0x7F)], max_size=30).map(
    lambda text: b"/" + text.encode()
)
OCTETS = st.binary(max_size=24)
LATIN = st.text([chr(c) for c in (*range(0x20, 0x100), 9, 11, 12, 28, 29, 30)], max_size=24).map(
    lambda text: text.encode("latin-1")
)
NAMES = st.one_of(
    TOKEN,
    st.sampled_from(
        [
            *(b"Host", b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version"),
            *(b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Origin", b"Content-Length"),
            *(b"Transfer-Encoding", b"Cookie", b"X-Forwarded-For", b"host", b"UPGRADE"),
        ]
    ),
)
VALUES = st.one_of(
    OCTETS,
    LATIN,
    st.sampled_from(
        [b"websocket", b"Upgrade", b"13", KEY, b"binary", b"chunked", b"0", b"\xa0websocket", b"a,b"]
    ),
)
LINE = st.tuples(NAMES, st.sampled_from([b": ", b":", b":\t", b" : "]), VALUES).map(b"".join)
HOSTS = st.one_of(
    st.sampled_from([b"h", b"h:81", b"[::1]:81", b"[::1]", b"h:", b"192.0.2.1:80", b"a_b", b"h%41"]), LATIN
)


def heads():
    """Opening handshakes with everything possible put into them."""
    return st.tuples(TARGET, HOSTS, st.lists(LINE, max_size=6), st.sampled_from([b"\r\n"] * 9 + [b"\n"])).map(
        _head
    )


def _head(parts):
    target, host, lines, end = parts
    plain = opening(target, *lines).replace(b"proxy.example:81", host, 1)
    return plain[:-4].replace(b"\r\nX-End", end + b"X-End") + b"\r\n\r\n"


def admitted(raw):
    with suppress(SessionError):
        read = HeadReader().feed(raw)
        if read is not None:
            return read[0]
    return None


class Nobody:
    """A gateway that takes a note of what Autobahn has read, and never answers."""

    quotas = Quotas()

    def __init__(self):
        self.admission = Admission(MemoryState(Clock()), Clock())

    async def admit(self, session, upgrade):
        raise SessionError("not today")


class Reading(Frontend):
    """What Autobahn makes of a head."""

    seen = None

    def onConnect(self, request):
        self.seen = request
        return super().onConnect(request)


def autobahn(raw, head):
    """Autobahn's reading of these bytes, None when it refuses them."""
    clock = Clock()
    factory = ListenerFactory("t", Nobody(), Sessions([], clock), Limits(), clock, Edge(http=Http.FORWARD))
    dispatch = factory.buildProtocol(None)
    wire = Wire(dispatch)
    request = dispatch._request(head)
    session = factory.sessions.new(request, factory.limits)
    reading = Reading(session, upgrade_of(head), factory.gateway, factory.sessions)
    reading.factory = factory.frontends
    dispatch._hand_to(reading, raw)
    wire.pump()
    return reading if reading.seen is not None else None


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(heads())
@example(opening(b"/a?b=c&b=d"))
@example(opening(b"//evil/ticket"))
@example(opening(b"/;x=1", b"X: \xa0y\xa0"))
@example(opening(b"/%zz?%"))
@example(opening(b"/a[b]@c:d"))
@example(opening(b"/?redirect=http://evil/"))
def test_an_upgrade_is_read_the_same_by_h11_and_by_autobahn(raw):
    head = admitted(raw)
    assume(head is not None)
    try:
        upgrade = upgrade_of(head)
    except SessionError:
        return
    assume(upgrade is not None)

    server = h11.Connection(h11.SERVER)
    server.receive_data(head.raw)
    event = server.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, event.http_version) == (head.method, head.target, b"1.1")
    assert event.headers.raw_items() == list(head.fields)
    assert isinstance(server.next_event(), h11.EndOfMessage) and server.trailing_data == (b"", False)

    reading = autobahn(head.raw, head)
    if reading is None:
        return  # refused by it, and so by us: nothing is read in two ways
    assert reading.http_request_uri.encode("latin-1") == head.target
    host = head.value(b"host").decode("ascii")
    assert reading.http_request_host in (host, host.rpartition(":")[0])
    merged = {}
    for name, value in head.fields:
        merged.setdefault(name.lower().decode("ascii"), []).append(value.decode("latin-1").strip())
    assert reading.http_headers == {name: ", ".join(values) for name, values in merged.items()}
    assert reading.http_headers["sec-websocket-key"].encode() == upgrade.key
    # It keeps the empty elements of a list, which RFC 9110 5.6.1 ignores; its list is not used.
    assert [each.encode() for each in reading.seen.protocols if each] == list(upgrade.subprotocols)
    assert reading.websocket_version == 13


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE"]),
    TARGET,
    HOSTS,
    st.lists(LINE, max_size=6),
)
def test_a_request_is_read_the_same_by_h11(method, target, host, lines):
    raw = b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: " + host, *lines]) + b"\r\n\r\n"
    head = admitted(raw)
    assume(head is not None)
    server = h11.Connection(h11.SERVER)
    server.receive_data(head.raw)
    event = server.next_event()
    assert (event.method, event.target) == (head.method, head.target)
    framing = (b"content-length", b"transfer-encoding")
    assert [each for each in event.headers.raw_items() if each[0].lower() not in framing] == [
        each for each in head.fields if each[0].lower() not in framing
    ]
    has_body = head.values(b"transfer-encoding") or head.value(b"content-length") not in (None, b"0")
    following = server.next_event()
    assert isinstance(following, h11.EndOfMessage) or has_body

"""The proxy and h11 parse every accepted head alike."""

from contextlib import suppress

import h11
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.head import HeadReader
from esxiproxy.core.websocket.handshake import upgrade_of
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
WORDS = st.sampled_from(
    [b"websocket", b"Upgrade", b"13", KEY, b"binary", b"chunked", b"0", b"\xa0websocket", b"a,b"]
)
LEGAL = OCTETS.map(lambda octets: bytes(octet if octet >= 0x20 and octet != 0x7F else 9 for octet in octets))
# Nothing is compared for a head that is refused: most have to be admitted.
VALUES = st.one_of(LEGAL, WORDS, LEGAL, WORDS, LEGAL, WORDS, st.one_of(OCTETS, LATIN))
SEPARATORS = st.sampled_from([b": ", b":", b":\t"] * 9 + [b" : "])
LINE = st.tuples(NAMES, SEPARATORS, VALUES).map(b"".join)
NAMED = [b"h", b"h:81", b"[::1]:81", b"[::1]", b"h:", b"192.0.2.1:80", b"a_b", b"h%41"]
HOSTS = st.integers(0, 9).flatmap(lambda kind: st.sampled_from(NAMED) if kind else LATIN)


def heads():
    """Generate opening handshakes with arbitrary fields."""
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


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(heads())
@example(opening(b"/a?b=c&b=d"))
@example(opening(b"//evil/ticket"))
@example(opening(b"/;x=1", b"X: \xa0y\xa0"))
@example(opening(b"/%zz?%"))
@example(opening(b"/a[b]@c:d"))
@example(opening(b"/?redirect=http://evil/"))
def test_an_upgrade_is_read_the_same_by_h11(raw):
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

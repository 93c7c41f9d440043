"""The head of an opening handshake that is sent, and a 101 that is read in one step."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.http.answer_head import AnswerHeadReader
from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.core.http.head_writer import request_head
from esxiproxy.core.websocket.handshake import (
    Upgrade,
    accept_value,
    check_acceptance,
    read_acceptance,
    read_switching,
    switching_head,
)

FIELDS = ((b"Host", b"esx:902"), (b"X-Text", b"\xc3\xa9 \t\x85"), (b"Upgrade", b"websocket"), (b"Empty", b""))
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A:\t b \xff \r\nx-a: c\r\n\r\n"


def read_strictly(octets):
    """Return the fields of a 101 as the reader of heads has them and the bytes behind it, else None."""
    reader = AnswerHeadReader(max_head=MAX_HEAD)
    reader.feed(octets)
    try:
        head = reader.take()
    except UpstreamInvalid:
        return None
    if head is None or head.status != 101:
        return None
    assert head.minor == 1
    return head.fields, reader.rest


def test_a_usual_101_is_read_with_the_bytes_behind_it():
    fields = ((b"Upgrade", b"websocket"), (b"X-A", b"b \xff"), (b"x-a", b"c"))
    assert read_switching(SWITCHING + b"\x82\x01a") == (fields, b"\x82\x01a")
    assert read_strictly(SWITCHING + b"\x82\x01a") == (fields, b"\x82\x01a")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"HTTP/1.1 101", b"HTTP/1.0 101"),
        (b"HTTP/1.1 101", b"\r\nHTTP/1.1 101"),
        (b"101 Switching", b"200 Switching"),
        (b"101 Switching", b"1011 Switching"),
        (b"Upgrade:", b"Upgrade :"),
        (b"Upgrade:", b" Upgrade:"),
        (b"X-A:\t b", b"X-A:\t b\r\n folded"),
        (b"\r\nx-a", b"\nx-a"),
        (b"X-A:\t b", b"X-A:\t\x00b"),
        (b"X-A:\t b", b"X-A:\t\rb"),
        (b"x-a: c", b"Content-Length: 0"),
        (b"x-a: c", b"transfer-encoding: chunked"),
        (b"x-a: c", b"x-a: " + b"c" * MAX_HEAD),
        (b"x-a: c\r\n\r\n", b"x-a: c\r\n"),
        (SWITCHING, b""),
    ],
)
def test_every_other_answer_is_left_to_the_reader_of_heads(before, after):
    assert before in SWITCHING and read_switching(SWITCHING.replace(before, after)) is None


PIECES = st.sampled_from(
    [b"\r\n\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\x0b", b"\x7f", b"101", b"HTTP/1.1 "]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(SWITCHING)), st.integers(0, 4), PIECES), max_size=4))
@example([(len(SWITCHING), 0, b"\r\n\r\n")])
def test_a_101_that_is_read_in_one_step_is_read_the_same_by_the_reader_of_heads(changes):
    octets = SWITCHING
    for place, removed, piece in changes:
        octets = octets[:place] + piece + octets[place + removed :]
    found = read_switching(octets)
    assert found is None or found == read_strictly(octets)


def test_a_request_is_written_as_h11_writes_it():
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method=b"GET", target=b"/ticket/a?b", headers=list(FIELDS))
    assert request_head(b"GET", b"/ticket/a?b", FIELDS) == connection.send(request)


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/\x00", b"/\xc3\xa9"])
def test_a_target_with_an_illegal_byte_is_not_sent(target):
    with pytest.raises(ValueError, match="illegal byte"):
        request_head(b"GET", target, FIELDS)


@pytest.mark.parametrize(
    "field", [(b"A b", b"c"), (b"", b"c"), (b"A", b"b\r\nC: d"), (b"A", b"b\x00"), (b"A", b"\n")]
)
def test_a_field_with_an_illegal_byte_is_not_sent(field):
    with pytest.raises(ValueError, match="illegal byte"):
        request_head(b"GET", b"/", (*FIELDS, field))


KEYS = (b"dGhlIHNhbXBsZSBub25jZQ==", b"AQIDBAUGBwgJCgsMDQ4PEA==")
UPGRADE = Upgrade(b"x3JJHMbDL1EzLkh9GBhXDw==", (b"binary",))
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: binary\r\nServer: esx\r\nVia: 1.1 other\r\n\r\n"
)


def accepted_slowly(octets, key):
    """Return the client's 101 and the bytes behind the upstream's, or None for an answer that is refused."""
    if (switched := read_switching(octets)) is None:
        return None
    try:
        acceptance = check_acceptance(b"1.1", switched[0], key, (b"binary",))
    except UpstreamInvalid:
        return None
    return switching_head(UPGRADE, acceptance, "id"), switched[1]


@pytest.mark.parametrize(
    ("before", "after", "usual"),
    [
        (b"", b"", True),
        (b"Server: esx\r\n", b"", True),
        (b"Sec-WebSocket-Protocol: binary\r\n", b"", True),
        (b"Sec-WebSocket-Accept: ACCEPT", b"sec-websocket-accept:ACCEPT", True),
        (b"Server: esx", b"X-Copy: ACCEPT", True),
        (b"Server: esx", b"Keep-Alive: 5\r\nContent-Type: a", True),
        (b"Protocol: binary", b"Protocol: other", False),
        (b"Upgrade: websocket\r\n", b"", False),
        (b"ACCEPT", b"ACCEPTA", False),
        (b"ACCEPT", b"AACCEPT", False),
        (b"Accept: ACCEPT", b"Accept: wrong\r\nX-Accept: ACCEPT", False),
        (b"Accept: ACCEPT", b"Accept: ACCEPT\r\nSec-WebSocket-Accept: ACCEPT", False),
        (b"Server: esx", b"Sec-WebSocket-Extensions: permessage-deflate", False),
        (b"Server: esx", b"Content-Length: 0", False),
        (b"Server: esx", b"Set-Cookie: a=b", False),
        (b"Server: esx", b"Location: /", False),
        (b"Server: esx", b"Server: \x00", False),
        (b"Server: esx", b"Server: " + b"e" * 1024, False),
        (b"\r\n\r\n", b"\r\n", False),
        (b"HTTP/1.1 101", b"HTTP/1.0 101", False),
    ],
)
def test_a_101_that_is_like_one_before_is_accepted_as_if_it_was_read_anew(before, after, usual):
    for key in (*KEYS, *KEYS):
        octets = ANSWER.replace(before, after).replace(b"ACCEPT", accept_value(key)) + b"\x82\x01a"
        found = read_acceptance(octets, key, (b"binary",))
        assert (found is not None) == usual
        if found is not None:
            assert (switching_head(UPGRADE, found[0], "id"), found[1]) == accepted_slowly(octets, key)
        wrong = KEYS[key == KEYS[0]]
        assert read_acceptance(octets, wrong, (b"binary",)) is None


def test_what_was_offered_is_checked_for_each_101():
    octets = ANSWER.replace(b"ACCEPT", accept_value(KEYS[0]))
    assert read_acceptance(octets, KEYS[0], (b"binary",)) is not None
    assert read_acceptance(octets, KEYS[0], ()) is None

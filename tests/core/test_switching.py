"""The head of an opening handshake that is sent, and a 101 that is read without h11."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.core.http.head_writer import request_head
from esxiproxy.core.http.response_reader import ResponseReader
from esxiproxy.core.websocket.handshake import read_switching

FIELDS = ((b"Host", b"esx:902"), (b"X-Text", b"\xc3\xa9 \t\x85"), (b"Upgrade", b"websocket"), (b"Empty", b""))
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A:\t b \xff \r\nx-a: c\r\n\r\n"


def read_by_h11(octets):
    """Return the fields of a 101 as h11 reads it and the bytes behind it, and None for everything else."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    connection.send(h11.Request(method=b"GET", target=b"/", headers=list(FIELDS)))
    connection.send(h11.EndOfMessage())
    reader = ResponseReader(connection, bodiless=False, max_head=MAX_HEAD)
    try:
        reader.feed(octets)
        event = reader.next_event()
    except (UpstreamInvalid, h11.RemoteProtocolError):
        return None
    if not isinstance(event, h11.InformationalResponse) or event.status_code != 101:
        return None
    assert event.http_version == b"1.1"
    return tuple(event.headers.raw_items()), reader.unread


def test_a_usual_101_is_read_with_the_bytes_behind_it():
    fields = ((b"Upgrade", b"websocket"), (b"X-A", b"b \xff"), (b"x-a", b"c"))
    assert read_switching(SWITCHING + b"\x82\x01a") == (fields, b"\x82\x01a")
    assert read_by_h11(SWITCHING + b"\x82\x01a") == (fields, b"\x82\x01a")


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
def test_every_other_answer_is_left_to_h11(before, after):
    assert before in SWITCHING and read_switching(SWITCHING.replace(before, after)) is None


PIECES = st.sampled_from(
    [b"\r\n\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\x0b", b"\x7f", b"101", b"HTTP/1.1 "]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(SWITCHING)), st.integers(0, 4), PIECES), max_size=4))
@example([(len(SWITCHING), 0, b"\r\n\r\n")])
def test_h11_reads_the_same_wherever_a_101_is_read_without_it(changes):
    octets = SWITCHING
    for place, removed, piece in changes:
        octets = octets[:place] + piece + octets[place + removed :]
    found = read_switching(octets)
    assert found is None or found == read_by_h11(octets)


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

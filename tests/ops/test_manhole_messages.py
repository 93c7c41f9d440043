"""The messages between a terminal and a shell: split anywhere, and hostile ones are refused."""

import json

import pytest

from esxiproxy.ops.manhole.messages import (
    MAX_CONTENT,
    MessageError,
    MessageKind,
    MessageReader,
    ShellRequest,
    ShellStatus,
    decode_size,
    encode,
    encode_size,
)


def read(octets):
    return list(MessageReader().feed(octets))


def test_messages_are_found_however_they_are_split():
    octets = encode(MessageKind.INPUT, b"abc") + encode(MessageKind.PING) + encode_size(24, 80)
    reader = MessageReader()
    found = [message for octet in octets for message in reader.feed(bytes([octet]))]
    assert found == read(octets) and [kind for kind, _ in found] == [
        MessageKind.INPUT,
        MessageKind.PING,
        MessageKind.SIZE,
    ]


def test_long_output_is_several_messages():
    found = read(encode(MessageKind.OUTPUT, b"x" * (2 * MAX_CONTENT + 1)))
    assert [len(content) for _, content in found] == [MAX_CONTENT, MAX_CONTENT, 1]


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n", b"I\x00\x01\x00\x01", b"\x00\x00\x00\x00\x00", b"i\x00\x00\x00\x00"]
)
def test_other_bytes_are_refused(octets):
    with pytest.raises(MessageError):
        read(octets)


def test_a_request_and_a_status_come_back():
    request = ShellRequest(True, 30, 100, "1", 4, "uid 0 (root)")
    ((_, content),) = read(request.encode())
    assert ShellRequest.decode(content) == request
    ((_, content),) = read(ShellStatus(3, "gone").encode())
    assert ShellStatus.decode(content) == ShellStatus(3, "gone")


@pytest.mark.parametrize(
    "change",
    [
        {"terminal": 1},
        {"worker": 1},
        {"generation": "1"},
        {"generation": True},
        {"operator": None},
        {"rows": -1},
        {"rows": "24"},
        {"columns": True},
    ],
)
def test_a_request_with_wrong_fields_is_refused(change):
    ((_, content),) = read(ShellRequest(True).encode())
    with pytest.raises(MessageError):
        ShellRequest.decode(json.dumps({**json.loads(content), **change}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"nonsense", b"\xff", b"[" * 60_000, b"{}"])
def test_what_is_no_object_is_refused(content):
    for decode in (ShellRequest.decode, ShellStatus.decode):
        with pytest.raises(MessageError):
            decode(content)


def test_a_field_of_a_later_version_is_ignored():
    ((_, content),) = read(ShellRequest(False).encode())
    assert ShellRequest.decode(json.dumps({**json.loads(content), "later": 1}).encode()) == ShellRequest()


def test_a_size_is_bounded_and_may_be_unknown():
    assert decode_size(read(encode_size(70_000, 5))[0][1]) == (10_000, 5)
    assert decode_size(b"\0\0\0\0") == (24, 80)
    for content in (b"", b"\0", b"\0\0\0\0\0"):
        with pytest.raises(MessageError):
            decode_size(content)

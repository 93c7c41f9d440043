"""The WebSocket codec of the tests: heads and frames (RFC 6455), also malformed ones.

The encoders check nothing: a malformed head or frame is encoded as the test requests it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

Field = tuple[str | bytes, str | bytes]
Mask = bool | bytes


class Frame(NamedTuple):
    """A frame, unmasked."""

    fin: bool
    rsv: int
    opcode: int
    masked: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or of a response, with its fields in their order."""

    line: str
    fields: tuple[tuple[str, str], ...]
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> Head:
        """Parse a head that ends with an empty line."""
        line, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        fields = (entry.partition(":") for entry in rest)
        return cls(line, tuple((name, value.strip(" \t")) for name, _, value in fields), raw)

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.line.split(" ", 2)[1])

    @property
    def target(self) -> str:
        """The target of a request."""
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Return every value of this field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """Return the value of a field that occurs at most once; None if it is missing."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


def accept_of(key: str) -> str:
    """Return the `Sec-WebSocket-Accept` value for a key (RFC 6455 4.2.2)."""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def handshake_fields(
    subprotocols: Sequence[str] = (), fields: Iterable[Field] = (), host: str = "console.test", key: str = KEY
) -> list[Field]:
    """Return the fields of an opening handshake."""
    offered: list[Field] = [("Sec-WebSocket-Protocol", ", ".join(subprotocols))] if subprotocols else []
    return [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        *offered,
        *fields,
    ]


def accepting_fields(key: str, subprotocol: str = "") -> list[Field]:
    """Return the fields of a 101 for a client with this key."""
    chosen: list[Field] = [("Sec-WebSocket-Protocol", subprotocol)] if subprotocol else []
    accept = ("Sec-WebSocket-Accept", accept_of(key))
    return [("Upgrade", "websocket"), ("Connection", "Upgrade"), accept, *chosen]


def head_bytes(line: str | bytes, fields: Iterable[Field]) -> bytes:
    """Return a head of this first line and these fields."""

    def octets(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode("latin-1")

    rows = [octets(line), *(octets(name) + b": " + octets(value) for name, value in fields)]
    return b"\r\n".join(rows) + b"\r\n\r\n"


def masked(key: bytes, payload: bytes, offset: int = 0) -> bytes:
    """Return the payload masked, or unmasked, with a key of 4 bytes, from this offset of the frame on."""
    size = len(payload)
    stream = (key * (size // 4 + 2))[offset % 4 : offset % 4 + size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    fin: bool = True,
    rsv: int = 0,
    mask: Mask = False,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """Return a frame.

    `mask` is a key, or whether there is a random one. `length` replaces the payload's length in the header.
    `length_bytes` (0, 2 or 8) replaces the shortest encoding of the length.
    """
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, bool(mask) << 7 | short])
    head += size.to_bytes(length_bytes, "big") if length_bytes else b""
    if not mask:
        return head + payload
    key = mask if isinstance(mask, bytes) else os.urandom(4)
    return head + key + masked(key, payload)


def take_frame(octets: bytearray, largest: int | None = None) -> Frame | None:
    """Remove the first frame from these bytes and return it; return None if it is incomplete.

    Raise ValueError if its header announces more than `largest` bytes.
    """
    if len(octets) < 2:
        return None
    first, second = octets[:2]
    size, start = second & 0x7F, 2
    if size > 125:
        start = 4 if size == 126 else 10
        if len(octets) < start:
            return None
        size = int.from_bytes(octets[2:start], "big")
    if largest is not None and size > largest:
        raise ValueError(f"a frame of {size} bytes")
    has_key = bool(second & 0x80)
    end = start + 4 * has_key + size
    if len(octets) < end:
        return None
    payload = bytes(octets[end - size : end])
    if has_key:
        payload = masked(bytes(octets[start : start + 4]), payload)
    del octets[:end]
    return Frame(bool(first & 0x80), first >> 4 & 7, first & 0x0F, has_key, payload)


def take_frames(octets: bytearray, largest: int | None = None) -> Iterator[Frame]:
    """Remove the complete frames from these bytes, one after the other, as `take_frame` does."""
    while (taken := take_frame(octets, largest)) is not None:
        yield taken


def close_payload(code: int | None, reason: str | bytes = b"") -> bytes:
    """Return the payload of a Close; None as the code is an empty one."""
    text = reason.encode() if isinstance(reason, str) else reason
    return b"" if code is None else code.to_bytes(2, "big") + text


def close_code(payload: bytes) -> int | None:
    """Return the code in the payload of a Close; None if it is empty."""
    return int.from_bytes(payload[:2], "big") if payload else None

"""What is on the wire: WebSocket frames (RFC 6455 5.2), and messages whose every byte is known beforehand."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from tests.support.wsclient import BINARY, CONTINUATION, frame, masked

HEAD = struct.Struct("!IQQ")
NOTHING = (1 << 64) - 1
"""In the place of the number that a message answers: it answers none."""
POOL = random.Random(6455).randbytes(1 << 20)
KEYSTROKES = (0, 1, 8, 20, 40, 105, 106, 200)
"""Sizes, beyond the head, of what a client sends."""
UPDATES = (0, 30, 105, 106, 400, 1400, 1500, 4000, 9000, 30000, 65515, 65516)
"""Sizes, beyond the head, of what an upstream sends: pieces of a screen, and both borders of a length."""


class Wrong(Exception):
    """A byte that should not have come."""


def content(console: int, number: int, answers: int, sizes: tuple[int, ...]) -> bytes:
    """The message with this number of this console, in one direction; the receiver knows it as well."""
    mixed = console * 2654435761 + number * 40503
    size, start = sizes[(mixed >> 7) % len(sizes)], mixed % (len(POOL) - 65536)
    return HEAD.pack(console, number, answers) + POOL[start : start + size]


def message(payload: bytes, number: int, key: bytes = b"") -> bytes:
    """A binary message, a client's if there is a key; every fifth one comes in two fragments (5.4)."""
    mask = key or False
    if number % 5 != 3:
        return frame(BINARY, payload, mask=mask)
    half = len(payload) // 2
    first = frame(BINARY, payload[:half], fin=False, mask=mask)
    return first + frame(CONTINUATION, payload[half:], mask=mask)


class Reader:
    """Makes whole messages and control frames of what comes; what breaks a rule is `Wrong`."""

    def __init__(self, masks: bool) -> None:
        """`masks`: whether the sender has to mask, that is, whether it is a client."""
        self._mask = 0x80 if masks else 0
        self._octets = bytearray()
        self._parts: list[bytes] | None = None

    def feed(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each that is complete now."""
        self._octets += octets
        while taken := self._frame():
            first, payload = taken
            opcode = first & 0x0F
            if first & 0x70:
                raise Wrong(f"a frame begins with {first:#x}")
            if opcode & 0x08:
                if not first & 0x80 or len(payload) > 125:
                    raise Wrong(f"a control frame {first:#x} of {len(payload)} bytes")
                yield opcode, payload
                continue
            if (opcode == CONTINUATION) is (self._parts is None):
                raise Wrong(f"a frame {first:#x} {'without' if self._parts is None else 'inside'} a message")
            parts = [*(self._parts or ()), payload]
            self._parts = None if first & 0x80 else parts
            if first & 0x80:
                yield BINARY, b"".join(parts)

    def _frame(self) -> tuple[int, bytes] | None:
        octets = self._octets
        if len(octets) < 2:
            return None
        first, second = octets[0], octets[1]
        if second & 0x80 != self._mask:
            raise Wrong(f"the mask bit of {bytes(octets[:16]).hex(' ')}")
        size, start = second & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            if len(octets) < start:
                return None
            size = int.from_bytes(octets[2:start], "big")
            if size > 1 << 20:
                raise Wrong(f"a frame of {size} bytes")
        key = bytes(octets[start : start + 4]) if self._mask else b""
        start += 4 if self._mask else 0
        if len(octets) < start + size:
            return None
        payload = bytes(octets[start : start + size])
        del octets[: start + size]
        return first, masked(key, payload) if key else payload

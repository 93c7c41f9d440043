"""WebSocket frames (RFC 6455 5.2), and messages whose bytes both sides know."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from tests.support.websocket import BINARY, CONTINUATION, Frame, frame, take_frame

HEAD = struct.Struct("!IQQ")
NOTHING = (1 << 64) - 1
"""In the place of the number that a message answers: it answers none."""
POOL = random.Random(6455).randbytes(1 << 20)
KEYSTROKES = (0, 1, 8, 20, 40, 105, 106, 200)
"""Sizes, beyond the head, of what a client sends."""
UPDATES = (0, 30, 105, 106, 400, 1400, 1500, 4000, 9000, 30000, 65515, 65516)
"""Sizes, beyond the head, of what an upstream sends: pieces of a screen, and both borders of a length."""


LARGEST_FRAME = 1 << 20
"""Bytes; no message of the load is that large."""


class Wrong(Exception):
    """A byte that should not have come."""


def content(console: int, number: int, answers: int, sizes: tuple[int, ...]) -> bytes:
    """Return the message with this number of this console, in one direction."""
    mixed = console * 2654435761 + number * 40503
    size, start = sizes[(mixed >> 7) % len(sizes)], mixed % (len(POOL) - 65536)
    return HEAD.pack(console, number, answers) + POOL[start : start + size]


def message(payload: bytes, number: int, key: bytes = b"") -> bytes:
    """Return a binary message, a client's if there is a key; every fifth one has two fragments (5.4)."""
    mask = key or False
    if number % 5 != 3:
        return frame(BINARY, payload, mask=mask)
    half = len(payload) // 2
    first = frame(BINARY, payload[:half], fin=False, mask=mask)
    return first + frame(CONTINUATION, payload[half:], mask=mask)


class Reader:
    """Makes whole messages and control frames of received bytes, and raises `Wrong` for a violation."""

    def __init__(self, masks: bool) -> None:
        """Create a reader for a sender that masks, which is a client, or for one that does not."""
        self._masks = masks
        self._octets = bytearray()
        self._parts: list[bytes] | None = None

    def feed(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of each message and control frame that is complete now."""
        self._octets += octets
        for taken in self._frames():
            if taken.rsv:
                raise Wrong(f"a frame with the reserved bits {taken.rsv:#x}")
            if taken.opcode & 0x08:
                if not taken.fin or len(taken.payload) > 125:
                    raise Wrong(f"a control frame {taken.opcode:#x} of {len(taken.payload)} bytes")
                yield taken.opcode, taken.payload
                continue
            if (taken.opcode == CONTINUATION) is (self._parts is None):
                where = "without" if self._parts is None else "inside"
                raise Wrong(f"a frame {taken.opcode:#x} {where} a message")
            parts = [*(self._parts or ()), taken.payload]
            self._parts = None if taken.fin else parts
            if taken.fin:
                yield BINARY, b"".join(parts)

    def _frames(self) -> Iterator[Frame]:
        """Yield the complete frames; a wrong mask bit is found as soon as it is there."""
        while len(self._octets) >= 2:
            if bool(self._octets[1] & 0x80) is not self._masks:
                raise Wrong(f"the mask bit of {bytes(self._octets[:16]).hex(' ')}")
            try:
                taken = take_frame(self._octets, LARGEST_FRAME)
            except ValueError as problem:
                raise Wrong(str(problem)) from None
            if taken is None:
                return
            yield taken

"""A minimal WebSocket codec: frame headers and the beginning of each payload (RFC 6455 5.2)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES = {
    CONTINUATION: "continuation",
    TEXT: "text",
    BINARY: "binary",
    CLOSE: "close",
    PING: "ping",
    PONG: "pong",
}
_SHOWN = 125
"""Payload bytes of a frame that are kept: the maximum of a control frame (RFC 6455 5.5)."""


class FrameError(Exception):
    """A frame that RFC 6455 does not allow; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the host; ``start`` is the beginning of its payload of ``length`` bytes."""

    opcode: int
    fin: bool
    length: int
    start: bytes

    @property
    def control(self) -> bool:
        """Whether this is a control frame."""
        return self.opcode >= CLOSE

    @property
    def close(self) -> tuple[int, str]:
        """The code and reason of a Close; the code is 1005 for an empty payload (RFC 6455 7.1.5)."""
        if len(self.start) < 2:
            return 1005, ""
        return int.from_bytes(self.start[:2], "big"), self.start[2:].decode("utf-8", "replace")


class FrameReader:
    """A parser of a server's stream.  A long frame is returned before its end is received."""

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._skip = 0

    def feed(self, octets: bytes) -> Iterator[Frame]:
        """Yield the frames that ``octets`` complete.  Raises FrameError."""
        self._buffer = self._buffer[self._start :] + octets
        self._start = 0
        while True:
            skipped = min(self._skip, len(self._buffer) - self._start)
            self._skip -= skipped
            self._start += skipped
            if self._skip or (frame := self._next()) is None:
                return
            yield frame

    def _next(self) -> Frame | None:
        buffer, begin = self._buffer, self._start
        if len(buffer) - begin < 2:
            return None
        first, second = buffer[begin], buffer[begin + 1]
        opcode, length, start = first & 0x0F, second & 0x7F, begin + 2
        _check(first, second)
        if length >= 126:
            start += 2 if length == 126 else 8
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[begin + 2 : start], "big")
        shown = min(length, _SHOWN)
        if len(buffer) < start + shown:
            return None
        self._start = start + shown
        self._skip = length - shown
        return Frame(opcode, bool(first & 0x80), length, buffer[start : start + shown])


def _check(first: int, second: int) -> None:
    opcode = first & 0x0F
    if first & 0x70:
        raise FrameError("a frame with RSV bits, and no extension was agreed on")
    if opcode not in OPCODES:
        raise FrameError(f"a frame with the reserved opcode {opcode}")
    if second & 0x80:
        raise FrameError("a masked frame, which only clients send")
    if opcode >= CLOSE and (not first & 0x80 or second & 0x7F > _SHOWN):
        raise FrameError("a control frame that is fragmented or too long")


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Return a control frame, masked as RFC 6455 5.3 requires of clients."""
    key = os.urandom(4)
    masked = bytes(octet ^ key[place % 4] for place, octet in enumerate(payload))
    return struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + key + masked


def close_frame(code: int) -> bytes:
    """Return a Close frame with this code."""
    return client_frame(CLOSE, struct.pack("!H", code))

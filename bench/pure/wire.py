"""What load and upstream share: frames (RFC 6455 5.2), TLS contexts, reading that says why it stops."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
MASK = b"\x5a\xc3\x17\x8e"
GRAIN = 1 << 20
"""A sink says so each time it has taken this many bytes."""
BLOCK = 1 << 18
"""Bytes of prebuilt frames, and of room to read into."""

Wire = socket.socket | ssl.SSLSocket
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def masked(octets: bytes, mask: bytes, offset: int = 0) -> bytes:
    """The octets under this mask; the same call takes it off again."""
    size = len(octets)
    key = (mask * (size // 4 + 2))[offset % 4 : offset % 4 + size]
    return (int.from_bytes(octets, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def frame(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """One frame."""
    size, bit = len(payload), 0x80 if mask else 0
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    return head + (mask + masked(payload, mask) if mask else payload)


class Frames:
    """Takes bytes, gives whole small frames: opcode and payload."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        left = self._left + octets if self._left else octets
        while len(left) >= 2:
            size, start = left[1] & 127, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                if len(left) < start:
                    break
                size = int.from_bytes(left[2:start], "big")
            mask = b""
            if left[1] & 128:
                mask, start = left[start : start + 4], start + 4
            if len(left) < start + size:
                break
            payload = left[start : start + size]
            yield left[0] & 15, masked(payload, mask) if mask else payload
            left = left[start + size :]
        self._left = left


def take(wire: Wire, size: int = BLOCK) -> bytes | None:
    """What came; None when nothing did, b"" at the end."""
    try:
        return wire.recv(size)
    except BLOCKED:
        return None
    except OSError:
        return b""


def give(wire: Wire, octets: bytes | memoryview) -> int:
    """How many bytes were taken; -1 at the end."""
    try:
        return wire.send(octets)
    except BLOCKED:
        return 0
    except OSError:
        return -1


def pending(wire: Wire) -> bool:
    """Whether OpenSSL has bytes that epoll knows nothing of."""
    return isinstance(wire, ssl.SSLSocket) and wire.pending() > 0


def client_context() -> ssl.SSLContext:
    """TLS that believes any certificate: what is measured is ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_context(certificate: str, key: str, cold: bool) -> ssl.SSLContext:
    """TLS with this certificate; a cold one resumes no session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if cold:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context

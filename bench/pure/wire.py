"""The common code of load and upstream: frames (RFC 6455 5.2), TLS contexts, non-blocking reads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
MASK = b"\x5a\xc3\x17\x8e"
GRAIN = 1 << 20
"""A sink reports each time it has received this many bytes."""
BLOCK = 1 << 18
"""Bytes of prebuilt frames, and of the read buffer."""

Wire = socket.socket | ssl.SSLSocket
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def masked(octets: bytes, mask: bytes, offset: int = 0) -> bytes:
    """Return the octets with a mask applied, or removed."""
    size = len(octets)
    key = (mask * (size // 4 + 2))[offset % 4 : offset % 4 + size]
    return (int.from_bytes(octets, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def frame(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """Return the bytes of a frame."""
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
    """A parser of small frames, which yields opcode and payload."""

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
    """Read and return bytes, None if there are none yet, or b"" at the end."""
    try:
        return wire.recv(size)
    except BLOCKED:
        return None
    except OSError:
        return b""


def give(wire: Wire, octets: bytes | memoryview) -> int:
    """Write bytes and return how many were accepted, or -1 at the end."""
    try:
        return wire.send(octets)
    except BLOCKED:
        return 0
    except OSError:
        return -1


def pending(wire: Wire) -> bool:
    """Return whether OpenSSL has buffered bytes, which epoll does not report."""
    return isinstance(wire, ssl.SSLSocket) and wire.pending() > 0


def client_context() -> ssl.SSLContext:
    """Return a TLS context without verification, because all servers are the benchmark's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_context(certificate: str, key: str, cold: bool) -> ssl.SSLContext:
    """Return a TLS context with this certificate; a cold one resumes no session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if cold:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context

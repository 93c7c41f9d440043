"""The common code of load and upstream: TLS contexts, non-blocking reads and writes."""

from __future__ import annotations

import socket
import ssl

MASK = b"\x5a\xc3\x17\x8e"
GRAIN = 1 << 20
"""A sink reports each time it has received this many bytes."""
BLOCK = 1 << 18
"""Bytes of prebuilt frames, and of the read buffer."""

Wire = socket.socket | ssl.SSLSocket
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


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


def server_context(
    certificate: str, key: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, tickets: bool = True
) -> ssl.SSLContext:
    """Return a TLS context with this certificate; without tickets it resumes no session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.maximum_version = version
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context

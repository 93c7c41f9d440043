"""Counts the bytes that were written to a transport and that its peer has not received."""

from __future__ import annotations

import array
import sys
from typing import Any

from esxiproxy.net.sockets.tcp_keepalive import socket_of

if sys.platform == "linux":
    import fcntl
    import termios

_DEEPEST = 4
"""Maximum number of transports that are wrapped in each other."""


def unsent_bytes(transport: Any) -> int:
    """Return the number of unsent bytes: those in the write buffer and those in the kernel's send queue.

    For TCP, the send queue contains the bytes that the peer has not acknowledged; an unacknowledged FIN
    counts as one byte.  For a unix socket, it contains the bytes that the peer has not read, plus the
    kernel's overhead.
    """
    queued = _queued(transport)
    sock = socket_of(transport)
    if sock is None or sys.platform != "linux":
        return queued
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # the socket is closed
        return queued
    return queued + count[0]


def _queued(transport: Any) -> int:
    """Return the number of bytes in the write buffer of a transport, of this package or of Twisted."""
    queued = 0
    for _ in range(_DEEPEST):
        if (own := getattr(transport, "unsent_bytes", None)) is not None:
            return queued + int(own)
        if hasattr(transport, "dataBuffer"):  # Twisted's transports have no public name for this
            waiting = len(transport.dataBuffer) - getattr(transport, "offset", 0)
            return queued + waiting + getattr(transport, "_tempDataLen", 0)
        queued += sum(map(len, getattr(transport, "_appSendBuffer", ())))  # Twisted's TLS
        transport = getattr(transport, "transport", None)
        if transport is None:
            break
    return queued

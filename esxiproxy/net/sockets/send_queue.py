"""How much of what was written has not reached the peer."""

from __future__ import annotations

import array
import sys
from typing import Any

from esxiproxy.net.sockets.tcp_keepalive import socket_of

if sys.platform == "linux":
    import fcntl
    import termios

_DEEPEST = 4
"""Transports within a transport, at most."""


def unsent_bytes(transport: Any) -> int:
    """Return the number of octets that the peer has not taken: those queued here, and the kernel's.

    Of the kernel's those count that TCP's peer has not acknowledged, and on a unix socket those that the peer
    has not read (with the kernel's own overhead).  A FIN that is not acknowledged counts as one octet.
    """
    queued = _queued(transport)
    sock = socket_of(transport)
    if sock is None or sys.platform != "linux":
        return queued
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # closed already
        return queued
    return queued + count[0]


def _queued(transport: Any) -> int:
    """Return the number of octets in the write buffer of a transport, ours or one of Twisted's."""
    queued = 0
    for _ in range(_DEEPEST):
        if (own := getattr(transport, "unsent_bytes", None)) is not None:
            return queued + int(own)
        if hasattr(transport, "dataBuffer"):  # Twisted's own, which has no public name for this
            waiting = len(transport.dataBuffer) - getattr(transport, "offset", 0)
            return queued + waiting + getattr(transport, "_tempDataLen", 0)
        queued += sum(map(len, getattr(transport, "_appSendBuffer", ())))  # Twisted's TLS
        transport = getattr(transport, "transport", None)
        if transport is None:
            break
    return queued

"""How much of what was written has not reached the peer."""

from __future__ import annotations

import array
import sys
from typing import Any

from esxiproxy.net.tcpkeepalive import socket_of

if sys.platform == "linux":
    import fcntl
    import termios


def unsent(transport: Any) -> int:
    """Bytes that the peer has not acknowledged: those queued here, and the kernel's where it tells."""
    queued: int = getattr(transport, "unsent", 0)
    sock = socket_of(transport)
    if sock is None or sys.platform != "linux":
        return queued
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # closed already
        return queued
    return queued + count[0]

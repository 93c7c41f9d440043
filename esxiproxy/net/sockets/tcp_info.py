"""How a peer takes the bytes that were written to it, as the kernel knows it."""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

from esxiproxy.net.sockets.tcp_keepalive import socket_of

_KNOWN = struct.Struct("=3xB20xI16xI4xII60xQ16xI")
"""Of Linux's ``struct tcp_info``, which only grows at its end: probes, unacked, last_data_sent,
last_data_recv, last_ack_recv, bytes_acked, notsent_bytes."""
_WINDOW = struct.Struct("=228xI")
"""The peer's window, which Linux tells since 5.4."""


@dataclass(frozen=True, slots=True)
class TCPInfo:
    """What TCP knows of one peer at this moment.

    ``acknowledged``
        how many bytes it has taken so far.
    ``waiting``
        whether there are others that it has not.
    ``closed``
        whether they wait since its window is closed: it is there, and does not read.
    ``unanswered``
        whether something was sent to it since it was heard.
    ``silent``
        seconds since it was heard: an acknowledgement, the answer to a probe, bytes of its own.
    """

    acknowledged: int
    has_unacked: bool
    window_closed: bool
    has_unanswered_probe: bool
    seconds_since_heard: float


def tcp_info(transport: Any) -> TCPInfo | None:
    """What the peer of this transport does; None where there is no TCP, or the platform does not tell."""
    sock = socket_of(transport)
    if sock is None or sys.platform != "linux":
        return None
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WINDOW.size)
    except (OSError, ValueError):  # a unix socket, or closed already
        return None
    if len(told) < _KNOWN.size:
        return None
    probes, unacked, sent, received, acked, acknowledged, unsent = _KNOWN.unpack_from(told)
    window = _WINDOW.unpack(told)[0] if len(told) == _WINDOW.size else 1
    silent = min(received, acked)
    return TCPInfo(
        acknowledged,
        has_unacked=unacked > 0 or unsent > 0,
        window_closed=unsent > 0 and (unacked == 0 or window == 0),
        has_unanswered_probe=probes > 0 or silent > sent,
        seconds_since_heard=silent / 1000,
    )

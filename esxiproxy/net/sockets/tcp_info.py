"""Reads TCP_INFO: what the kernel knows of the peer of a connection."""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

from esxiproxy.net.sockets.tcp_keepalive import socket_of

_KNOWN = struct.Struct("=3xB20xI16xI4xII60xQ16xI")
"""Fields of Linux's ``struct tcp_info``, which only grows at its end: probes, unacked, last_data_sent,
last_data_recv, last_ack_recv, bytes_acked, notsent_bytes."""
_WINDOW = struct.Struct("=228xI")
"""The receive window of the peer, which Linux reports since 5.4."""


@dataclass(frozen=True, slots=True)
class TCPInfo:
    """A snapshot of the TCP state of one peer.

    ``acknowledged``
        the number of bytes that the peer has acknowledged so far.
    ``has_unacked``
        whether there are bytes that the peer has not acknowledged.
    ``window_closed``
        whether these bytes wait because the receive window is closed: the peer is alive, but does not read.
    ``has_unanswered_probe``
        whether a probe or other bytes were sent since the last packet of the peer.
    ``seconds_since_heard``
        seconds since the last packet of the peer: an acknowledgement, the answer to a probe, or data.
    """

    acknowledged: int
    has_unacked: bool
    window_closed: bool
    has_unanswered_probe: bool
    seconds_since_heard: float


def tcp_info(transport: Any) -> TCPInfo | None:
    """Return the TCP state of a transport's peer; None without TCP, or if the platform has no TCP_INFO."""
    sock = socket_of(transport)
    if sock is None or sys.platform != "linux":
        return None
    try:
        packed = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WINDOW.size)
    except (OSError, ValueError):  # a unix socket, or a closed one
        return None
    if len(packed) < _KNOWN.size:
        return None
    probes, unacked, sent, received, acked, acknowledged, unsent = _KNOWN.unpack_from(packed)
    window = _WINDOW.unpack(packed)[0] if len(packed) == _WINDOW.size else 1
    silent = min(received, acked)
    return TCPInfo(
        acknowledged,
        has_unacked=unacked > 0 or unsent > 0,
        window_closed=unsent > 0 and (unacked == 0 or window == 0),
        has_unanswered_probe=probes > 0 or silent > sent,
        seconds_since_heard=silent / 1000,
    )

"""The process at the other end of a unix socket, as the kernel tells it."""

from __future__ import annotations

import pwd
import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """The process that has opened a unix socket: its process id and its user id."""

    pid: int
    uid: int

    def __str__(self) -> str:
        """Return the user, as in ``uid 0 (root)``."""
        try:
            return f"uid {self.uid} ({pwd.getpwuid(self.uid).pw_name})"
        except KeyError:
            return f"uid {self.uid}"


def unix_peer(connected: socket.socket) -> UnixPeer:
    """Return the peer of a connected unix socket (SO_PEERCRED, unix(7)).  Raises OSError."""
    octets = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(octets)
    return UnixPeer(pid, uid)

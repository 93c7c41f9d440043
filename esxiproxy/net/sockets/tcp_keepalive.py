"""Sets the TCP keepalive options of a connection."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from esxiproxy.core.keepalive import probes

Option = tuple[int, int, int]
"""Level, name and value, as ``setsockopt`` takes them."""

_UNIX = int(getattr(socket, "AF_UNIX", -1))
_family_of_socket = vars(socket.SocketType)["family"].__get__

_DEEPEST = 5
"""Maximum number of transports that are wrapped in each other."""


def keep_alive(transport: Any, within: float | None) -> None:
    """Enable TCP keepalive so that a dead peer is detected within so many seconds; None disables it.

    ``transport`` is a transport, with or without TLS, or a socket.  Without TCP (a unix socket, or a
    transport of a test), nothing is done.  Options that the platform does not have are omitted.

    TCP does not probe a peer with unacknowledged bytes (RFC 9293 3.8.4); these are covered by
    :mod:`esxiproxy.net.console.stall_detector`.
    """
    if (set_options := getattr(transport, "set_socket_options", None)) is not None:  # a stream
        set_options(_options(within))
        return
    sock = socket_of(transport)
    if sock is not None and _family_of(sock) != _UNIX:
        _set(sock, _options(within))


def socket_of(transport: Any) -> Any:
    """Return the socket of a transport, or an object with its options and ``fileno``; None if there is none.

    The handle of a TLS transport is the TLS connection.  If that is on a socket, it forwards the socket's
    methods.  If it is on a memory BIO, the socket is that of the wrapped transport.
    """
    sock = getattr(transport, "socket", None)
    if isinstance(sock, socket.SocketType):  # a stream, or a TCP transport of Twisted's
        return sock
    for _ in range(_DEEPEST):
        if isinstance(transport, socket.SocketType):
            return transport
        handle = _handle(transport)
        if hasattr(handle, "setsockopt"):  # pyOpenSSL forwards it
            return handle
        transport = getattr(transport, "transport", None)
        if transport is None:
            return None
    return None


def _family_of(sock: Any) -> int:
    """Return the family of a socket as a number; its ``family`` makes an enum, which takes longer."""
    return int(_family_of_socket(sock) if isinstance(sock, socket.SocketType) else sock.family)


def _handle(transport: Any) -> Any:
    try:
        return transport.getHandle()
    except (AttributeError, NotImplementedError):
        return None


@lru_cache(maxsize=64)
def _options(within: float | None) -> tuple[Option, ...]:
    if within is None:
        return _known((socket.SOL_SOCKET, "SO_KEEPALIVE", 0))
    found = probes(within)
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # its name on macOS
    return _known(
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, idle, found.idle),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", found.interval),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", found.count),
    )


def _known(*options: tuple[int, str, int]) -> tuple[Option, ...]:
    """Return the options that the platform has, with their numbers."""
    return tuple(
        (level, getattr(socket, name), value) for level, name, value in options if hasattr(socket, name)
    )


def _set(sock: Any, options: Iterable[Option]) -> None:
    for level, number, value in options:
        with suppress(OSError):  # no TCP, an option that this kernel does not have, or a closed socket
            sock.setsockopt(level, number, value)

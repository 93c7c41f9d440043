"""TCP's own keepalive on a connection, as far as the platform has it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from esxiproxy.core.keepalive import probes

Option = tuple[int, int, int]
"""Level, name and value, as ``setsockopt`` takes them."""

_DEEPEST = 5
"""Transports that are wrapped in each other, at most."""


def keep_alive(transport: Any, within: float | None) -> None:
    """See to it that a dead peer is found within so many seconds; None leaves it to chance.

    One that bytes wait for is not probed (RFC 9293 3.8.4): see :mod:`esxiproxy.net.console.stall_detector`.
    Takes a transport, TLS or not, or a socket.  What has no TCP under it (a unix socket, a test's transport)
    and options that the platform does not know are left alone.
    """
    sock = socket_of(transport)
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        _set(sock, _options(within))


def socket_of(transport: Any) -> Any:
    """The socket under a transport; None if there is none.

    A TLS transport's handle is the TLS connection: one on a socket passes ``getsockopt`` on to it, one on a
    memory BIO has none, and there the transport that is wrapped is asked.
    """
    for _ in range(_DEEPEST):
        if isinstance(transport, socket.socket):
            return transport
        handle = _handle(transport)
        if hasattr(handle, "setsockopt"):  # pyOpenSSL passes it on
            return handle
        transport = getattr(transport, "transport", None)
        if transport is None:
            return None
    return None


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
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # as macOS calls it
    return _known(
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, idle, found.idle),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", found.interval),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", found.count),
    )


def _known(*options: tuple[int, str, int]) -> tuple[Option, ...]:
    """Those that the platform has."""
    return tuple(
        (level, getattr(socket, name), value) for level, name, value in options if hasattr(socket, name)
    )


def _set(sock: Any, options: Iterable[Option]) -> None:
    for level, number, value in options:
        try:  # eight times a session, and `suppress` costs more than the call
            sock.setsockopt(level, number, value)
        except OSError:  # no TCP, not known to this kernel, or closed already
            continue

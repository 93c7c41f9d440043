"""Types that streams share with their loop, their fast path and their owner."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure

FastPathResult = bytes | None
"""What a fast path leaves to Python after it has read from its stream's socket.

``None``
    Nothing.  All bytes that were read are forwarded, or the socket had none.  The event is served.
``b""``
    The read itself.  The fast path may not read now, or it saw the end of the connection.  The stream reads
    from its socket as it does without a fast path.
other bytes
    These bytes, which were read and are not examined.  The stream passes them to its protocol before it reads
    again.

An ``OSError`` that is raised is an error of the socket, which ends the connection with CONNECTION_LOST.  Any
other exception is a bug, and ends the connection with itself.  ``compiled.h`` says the same in C.
"""
FastPath = Callable[[], FastPathResult]
"""A function that a stream calls in place of reading from its socket."""
Unfinished = bytes | BaseException
"""What the compiled loop leaves to Python for one event: the bytes of a FastPathResult, or its exception."""
DoReadResult = Any
"""The result of ``doRead`` and ``doWrite``: None, or the exception with which the connection ends."""


class Loop(Protocol):
    """The loop of a stream, an :class:`~esxiproxy.net.transport.epoll_loop.EpollLoop`."""

    accepted: int

    def addReader(self, stream: Any) -> None: ...
    def removeReader(self, stream: Any) -> None: ...
    def addWriter(self, stream: Any) -> None: ...
    def removeWriter(self, stream: Any) -> None: ...
    def remove(self, stream: Any) -> None: ...
    def serve_soon(self, stream: Any, why: BaseException | None = None) -> None: ...
    def callLater(self, delay: float, call: Any, *args: Any) -> Any: ...


class Relayable(Protocol):
    """A stream whose bytes a fast path may forward."""

    def fileno(self) -> int: ...
    def getHandle(self) -> Any: ...


class ConnectionOwner(Protocol):
    """A Twisted connector, which refers to its connection's transport and is notified of its end."""

    transport: Any

    def connectionLost(self, reason: Failure) -> None: ...


def address_of(family: int, name: Any) -> Any:
    """Return a socket's name as a Twisted address; an IPv6 address includes its scope."""
    if family == socket.AF_UNIX:
        return UNIXAddress(name or None)
    if family == socket.AF_INET6:
        host = name[0]
        if name[3]:
            host = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return IPv6Address("TCP", host, *name[1:])
    return IPv4Address("TCP", *name)


@lru_cache(maxsize=1024)
def repeated_address_of(family: int, name: Any) -> Any:
    """Return the same as ``address_of`` for a name of an upstream or of this end, of which there are few."""
    return address_of(family, name)


@lru_cache(maxsize=1024)
def family_of(host: str) -> int | None:
    """Return the address family of an IP address, or None for a host name."""
    if isIPAddress(host):
        return socket.AF_INET
    return socket.AF_INET6 if isIPv6Address(host) else None


class HandshakeCut(ConnectionLost):
    """The end of a connection during the TLS handshake, after the peer's first handshake message."""


def fault_of(error: SSL.Error) -> Exception:
    """Return the reason of ``connectionLost`` for an OpenSSL error.

    It is CONNECTION_LOST for an error of the socket, and the error itself for an error of TLS.
    """
    if isinstance(error, SSL.SysCallError) or not (error.args and error.args[0]):
        return CONNECTION_LOST
    return error

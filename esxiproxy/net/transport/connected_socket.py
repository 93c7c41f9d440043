"""The addresses and options of a connected socket, as Twisted's transports have them."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import ISystemHandle
from zope.interface import implementer

from esxiproxy.net.transport.fast_path import compiled
from esxiproxy.net.transport.interfaces import repeated_address_of

_module = compiled()
_set_options = None if _module is None else _module.set_options


@implementer(ISystemHandle)
class ConnectedSocket:
    """The addresses and options of a transport's socket.

    Both addresses may be those of a PROXY header in place of the socket's own.
    """

    __slots__ = ()

    socket: socket.SocketType
    _peer: Any
    _host: Any
    _no_delay: Any

    def getHandle(self) -> Any:
        return self.socket

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        if self._host is None:
            name = self.socket.getsockname()
            self._host = repeated_address_of(_family_of(name), name)
        return self._host

    def getTcpNoDelay(self) -> bool:
        return self._tcp() and bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        if enabled and self._no_delay:
            return
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)
        except OSError:
            if self._tcp():
                raise
        self._no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def set_socket_options(self, options: tuple[tuple[int, int, int], ...]) -> None:
        """Set options of the socket, each by level, name and value, as far as the socket has them."""
        if _set_options is not None:
            _set_options(self.socket.fileno(), options)
            return
        for option in options:
            with suppress(OSError):
                self.socket.setsockopt(*option)

    def _tcp(self) -> bool:
        return self.socket.family != socket.AF_UNIX

    def set_inherited(self, host: Any, no_delay: bool) -> None:
        """Set what an accepted connection has from its port: the address of this end, and TCP_NODELAY."""
        self._host, self._no_delay = host, no_delay

    def set_addresses(self, peer: Any, host: Any) -> None:
        """Set the addresses of the peer and of this end; None leaves an address unchanged."""
        self._peer, self._host = peer or self._peer, host or self._host


def _family_of(name: Any) -> int:
    """Return the family of a socket with this name.  ``socket.family`` makes an enum, which takes longer."""
    if not isinstance(name, tuple):
        return socket.AF_UNIX
    return socket.AF_INET if len(name) == 2 else socket.AF_INET6

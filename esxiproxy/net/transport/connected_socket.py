"""The addresses and options of a connected socket, as Twisted's transports have them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import ISystemHandle
from zope.interface import implementer

from esxiproxy.net.transport.interfaces import address_of


@implementer(ISystemHandle)
class ConnectedSocket:
    """The addresses and options of a transport's socket.

    Both addresses may be those of a PROXY header in place of the socket's own.
    """

    __slots__ = ()

    socket: socket.socket
    _peer: Any
    _host: Any

    def getHandle(self) -> Any:
        return self.socket

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return self._host or address_of(self.socket.family, self.socket.getsockname())

    def getTcpNoDelay(self) -> bool:
        return self._tcp() and bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)
        except OSError:
            if self._tcp():
                raise

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def _tcp(self) -> bool:
        return self.socket.family != socket.AF_UNIX

    def set_addresses(self, peer: Any, host: Any) -> None:
        """Set the addresses of the peer and of this end; None leaves an address unchanged."""
        self._peer, self._host = peer or self._peer, host or self._host

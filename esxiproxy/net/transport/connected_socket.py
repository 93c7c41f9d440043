"""What a connected socket is, for whoever has it as a transport."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import ISystemHandle
from zope.interface import implementer

from esxiproxy.net.transport.interfaces import address_of


@implementer(ISystemHandle)
class ConnectedSocket:
    """A socket with two ends; a proxy in front of it may have said that these are others."""

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
        """It is the connection of this peer, to this address of ours; None leaves either as it is."""
        self._peer, self._host = peer or self._peer, host or self._host

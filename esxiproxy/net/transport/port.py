"""Listening ports whose connections are streams."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp, unix

from esxiproxy.net.transport.loop import Loop
from esxiproxy.net.transport.tcp import TCPStream


class _Accepting:
    """Twisted's port calls ``transport`` for every connection that it accepts."""

    loop: Loop
    _buildAddr: Any

    def transport(
        self, sock: socket.socket, protocol: Any, address: Any, _port: Any, _number: int, _reactor: Any
    ) -> TCPStream:
        sock.setblocking(False)
        return TCPStream(sock, protocol, self.loop, self._buildAddr(address or None))


class TCPPort(_Accepting, tcp.Port):  # type: ignore[misc]
    """A TCP port."""


class UNIXPort(_Accepting, unix.Port):  # type: ignore[misc]
    """A unix socket's port."""

    def _buildAddr(self, name: Any) -> Any:
        return unix.Port._buildAddr(self, name)

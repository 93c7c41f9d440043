"""Connectors whose connections are streams: Twisted's own, until the socket is connected."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.net.transport.loop import Loop
from esxiproxy.net.transport.tcp import TCPStream

_log = Logger()


class _Dialling:
    """A client of Twisted's that gives its socket away when it is connected."""

    connector: Any
    socket: Any
    getPeer: Any
    _given = False

    def _connectDone(self) -> None:
        connector, sock = self.connector, self.socket
        protocol = connector.buildProtocol(self.getPeer())
        self.connected = self._given = True
        del self.connector, self.socket  # the stream's, from here on
        self.doRead = self.doWrite = _nothing
        stream = TCPStream(sock, protocol or Protocol(), connector.loop, self.getPeer(), connector)
        if protocol is None:
            stream.loseConnection()
            return
        try:
            protocol.makeConnection(stream)
        except Exception:
            failure = Failure()
            _log.failure("a protocol raised in connectionMade", failure)
            connector.transport.connectionLost(failure)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor looks once more in the turn of the connect: the stream may be gone by then."""
        if not self._given:
            super().connectionLost(reason)  # type: ignore[misc]


class _TCPDial(_Dialling, tcp.Client):  # type: ignore[misc]
    pass


class _UNIXDial(_Dialling, unix.Client):  # type: ignore[misc]
    pass


class TCPConnector(tcp.Connector):
    """One attempt to connect, and the connection that comes of it."""

    loop: Loop

    def _makeTransport(self) -> Any:
        return _TCPDial(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """The same to a unix socket."""

    loop: Loop

    def _makeTransport(self) -> Any:
        return _UNIXDial(self.address, self, self.reactor, self.checkPID)


def _nothing() -> None:
    """The socket is the stream's: what the reactor still wants of it in this turn is not ours to do."""

"""Connectors whose connections are streams: a socket that is being connected, and who connects it."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import ConnectBindError, getConnectError
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.net.transport.interfaces import Loop, address_of, family_of
from esxiproxy.net.transport.stream import attach_protocol
from esxiproxy.net.transport.tcp import TCPStream

_STREAM = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
_BEGUN = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})

_log = Logger()


def _connected(connector: Any, sock: socket.socket, peer: Any, dial: Any = None) -> None:
    """Make a stream of a connected socket, whose ``dial`` is in the loop so far.

    Where the loop takes no stream, the connector is told that there is no connection.
    """
    try:
        protocol = connector.buildProtocol(peer)
    except Exception:
        _log.failure("a factory raised when its connection was made")
        protocol = None
    try:
        stream = TCPStream(sock, protocol or Protocol(), connector.loop, peer, connector)
    except Exception:  # no memory for one more descriptor in the loop
        failure = Failure()
        if dial is not None:
            connector.loop.removeWriter(dial)
        sock.close()
        connector.connectionFailed(failure)
        return
    if protocol is None:
        stream.loseConnection()
    else:
        attach_protocol(protocol, stream)


class _Dial:
    """A socket on its way to an address, in the loop of the streams.

    Twisted's own spends three turns of the reactor on it, and looks for a name to be resolved.  What fails is
    told in a later turn, since the connector does not know its dial before.
    """

    def __init__(self, connector: Any, family: int, address: tuple[str, int]) -> None:
        self._connector = connector
        self._family = family
        self._socket: socket.socket | None = None
        try:
            self._name = address if family == socket.AF_INET else _numeric(*address)
            self._socket = sock = socket.socket(family, _STREAM)
            self.fileno = sock.fileno
            number = sock.connect_ex(self._name)
        except OSError as problem:  # no descriptor left, no such interface
            self._fail_later(ConnectBindError(problem.errno, problem.strerror))
            return
        if number in _BEGUN:
            connector.loop.addWriter(self)
        else:
            self._fail_later(getConnectError((number, os.strerror(number))))

    def _fail_later(self, error: Exception) -> None:
        self._connector.loop.callLater(0, self.failIfNotConnected, error)

    def doWrite(self) -> None:
        """It is connected, or never will be."""
        self._done(0)

    def _done(self, otherwise: int) -> None:
        """The socket knows what became of it, and forgets it when it is asked."""
        sock, connector = self._socket, self._connector
        if sock is None:
            return
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or otherwise
        if number:
            self.failIfNotConnected(getConnectError((number, os.strerror(number))))
            return
        peer = address_of(self._family, self._name)
        self._socket = self._connector = None
        _connected(connector, sock, peer, self)

    def connectionLost(self, reason: Failure) -> None:
        """The loop saw an error or a hang-up; or it has stopped, and there is no peer yet."""
        sock, otherwise = self._socket, 0
        if sock is None:
            return
        try:
            sock.getpeername()
        except OSError as problem:
            otherwise = problem.errno or 0
        self._done(otherwise)

    def failIfNotConnected(self, error: Exception) -> None:
        """Give up, for this reason: a connector's time is up, or its user does not want it any more."""
        sock, connector = self._socket, self._connector
        if connector is None:
            return
        self._socket = self._connector = None
        if sock is not None:
            connector.loop.removeWriter(self)
            sock.close()
        connector.connectionFailed(Failure(error))


class _Giving:
    """A client of Twisted's that gives its socket away when it is connected."""

    connector: Any
    socket: Any
    getPeer: Any
    _given = False

    def _connectDone(self) -> None:
        connector, sock = self.connector, self.socket
        peer = self.getPeer()
        self.connected = self._given = True
        del self.connector, self.socket  # the stream's, from here on
        self.doRead = self.doWrite = _nothing
        _connected(connector, sock, peer)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor looks once more in the turn of the connect: the stream may be gone by then."""
        if not self._given:
            super().connectionLost(reason)  # type: ignore[misc]


class _TCPClient(_Giving, tcp.Client):  # type: ignore[misc]
    pass


class _UNIXClient(_Giving, unix.Client):  # type: ignore[misc]
    pass


class TCPConnector(tcp.Connector):
    """One attempt to connect, and the connection that comes of it.

    Names, and whoever wants an end of ours to be bound, are left to Twisted's own client.
    """

    loop: Loop

    def _makeTransport(self) -> Any:
        family = family_of(self.host)
        if family is not None and self.bindAddress is None:
            return _Dial(self, family, (self.host, self.port))
        return _TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """The same to a unix socket."""

    loop: Loop

    def _makeTransport(self) -> Any:
        return _UNIXClient(self.address, self, self.reactor, self.checkPID)


def _numeric(host: str, port: int) -> Any:
    """An IPv6 socket's name, its scope as a number."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, flags)
    return found[0][4]


def _nothing() -> None:
    """The socket is the stream's: what the reactor still wants of it in this turn is not ours to do."""

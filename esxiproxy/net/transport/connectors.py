"""Connectors whose connections are streams, and the sockets that they connect."""

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

from esxiproxy.net.transport.interfaces import Loop, family_of, repeated_address_of
from esxiproxy.net.transport.stream import attach_protocol
from esxiproxy.net.transport.tcp import TCPStream

_STREAM = int(socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0))
_IN_PROGRESS = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})

_log = Logger()


def _connected(connector: Any, sock: socket.SocketType, peer: Any, dial: Any = None) -> None:
    """Make a stream of a connected socket, and attach the connector's protocol.

    ``dial`` is registered with the loop for this socket until the stream is.  If the loop cannot register the
    stream, the connector's ``connectionFailed`` is called.
    """
    try:
        protocol = connector.buildProtocol(peer)
    except BaseException:
        _log.failure("a factory raised an exception in buildProtocol, its connection is closed")
        protocol = None
    try:
        stream = TCPStream(sock, protocol or Protocol(), connector.loop, peer, connector)
    except BaseException:  # epoll has no memory for another descriptor
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
    """A socket that is being connected to an IP address.

    It needs one turn of the reactor; Twisted's client needs three.  A failure in the constructor is reported
    in a later turn, since the connector has no reference to this object before.
    """

    def __init__(self, connector: Any, family: int, address: tuple[str, int]) -> None:
        self._connector = connector
        self._family = family
        self._socket: socket.SocketType | None = None
        try:
            self._name = address if family == socket.AF_INET else _numeric(*address)
            self._socket = sock = socket.SocketType(family, _STREAM)
            self.fileno = sock.fileno
            number = sock.connect_ex(self._name)
        except OSError as problem:  # no descriptor left, unknown IPv6 scope
            self._fail_later(ConnectBindError(problem.errno, problem.strerror))
            return
        if number in _IN_PROGRESS:
            connector.loop.addWriter(self)
        else:
            self._fail_later(getConnectError((number, os.strerror(number))))

    def _fail_later(self, error: Exception) -> None:
        self._connector.loop.callLater(0, self.failIfNotConnected, error)

    def doWrite(self) -> None:
        """Finish the connect, which has succeeded or failed."""
        self._finish(0)

    def _finish(self, otherwise: int) -> None:
        """Read the result of the connect from the socket; ``otherwise`` is an errno that is used if it is 0.

        SO_ERROR is cleared when it is read.
        """
        sock, connector = self._socket, self._connector
        if sock is None:
            return
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or otherwise
        if number:
            self.failIfNotConnected(getConnectError((number, os.strerror(number))))
            return
        peer = repeated_address_of(self._family, self._name)
        self._socket = self._connector = None
        _connected(connector, sock, peer, self)

    def connectionLost(self, reason: Failure) -> None:
        """Handle an error or a hang-up of the socket, or the stop of the loop."""
        sock, otherwise = self._socket, 0
        if sock is None:
            return
        try:
            sock.getpeername()
        except OSError as problem:
            otherwise = problem.errno or 0
        self._finish(otherwise)

    def failIfNotConnected(self, error: Exception) -> None:
        """Close the socket, and report this error to the connector.  Do nothing after the connect."""
        sock, connector = self._socket, self._connector
        if connector is None:
            return
        self._socket = self._connector = None
        if sock is not None:
            connector.loop.removeWriter(self)
            sock.close()
        connector.connectionFailed(Failure(error))


class _ConnectingClient:
    """A client of Twisted's that hands its socket over to a stream when it is connected."""

    connector: Any
    socket: Any
    getPeer: Any
    _handed_over = False

    def _connectDone(self) -> None:
        connector, sock = self.connector, self.socket
        peer = self.getPeer()
        self.connected = self._handed_over = True
        del self.connector, self.socket  # the stream owns them from now on
        self.doRead = self.doWrite = _ignore_event
        _connected(connector, sock, peer)

    def connectionLost(self, reason: Failure) -> None:
        """Ignore the end of a socket that the stream owns; the reactor may report it in this turn."""
        if not self._handed_over:
            super().connectionLost(reason)  # type: ignore[misc]


class _TCPClient(_ConnectingClient, tcp.Client):  # type: ignore[misc]
    pass


class _UNIXClient(_ConnectingClient, unix.Client):  # type: ignore[misc]
    pass


class TCPConnector(tcp.Connector):
    """A TCP connector whose connection is a stream.

    Twisted's client connects to host names, and from a bound local address.
    """

    loop: Loop

    def _makeTransport(self) -> Any:
        family = family_of(self.host)
        if family is not None and self.bindAddress is None:
            return _Dial(self, family, (self.host, self.port))
        return _TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """A connector to a unix socket whose connection is a stream."""

    loop: Loop

    def _makeTransport(self) -> Any:
        return _UNIXClient(self.address, self, self.reactor, self.checkPID)


def _numeric(host: str, port: int) -> Any:
    """Return the name of an IPv6 socket, with its scope as a number."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, flags)
    return found[0][4]


def _ignore_event() -> None:
    """Ignore an event that the reactor still reports in this turn: the stream owns the socket."""

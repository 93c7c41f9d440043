"""Listening ports whose connections are streams, and which pause when no descriptor is left."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.net.transport.interfaces import ConnectionOwner, Loop, address_of
from esxiproxy.net.transport.stream import attach_protocol
from esxiproxy.net.transport.tcp import TCPStream

ACCEPTS_PER_TURN = 64
"""Maximum connections accepted in an event of a port, so that existing connections are served between.

The loop counts them as streams: after so many, the reactor gets its turn.
"""
ACCEPT_RETRY = 0.1
"""Seconds until a port tries again after it ran out of descriptors or memory."""
LOG_INTERVAL = 5.0
"""Minimum seconds between two log messages about paused ports, for all ports together."""

_CONNECTION_ERRORS = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,  # refused by the packet filter
        errno.EINTR,
        # accept(2): Linux reports the network errors of the new connection.
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        getattr(errno, "ENONET", errno.EPROTO),  # Linux only
    }
)
"""Errors of ``accept`` that concern the one new connection; the next one is accepted at once."""

_STREAM = int(socket.SOCK_STREAM)
_ANY = ("0.0.0.0", "::")

_log = Logger()
_last_logged: list[float] = []


class Gate(Protocol):
    """A gate before ``accept`` that shares connections between processes and counts them."""

    def may_accept(self) -> bool:
        """Return whether to accept a connection now.  After False, the gate has to resume the port."""

    def count_connection(self) -> ConnectionOwner:
        """Count an accepted connection, and return the owner that is notified of its end."""


class _Accepting:
    """A mix-in of ports that accepts connections and makes streams of them.

    When the system has no descriptor or no memory left (EMFILE, ENFILE, ENOBUFS, ENOMEM), the port pauses for
    ACCEPT_RETRY, and new connections wait in the kernel's queue.  Twisted's own port accepts and drops them.
    A call of ``stopReading`` or ``startReading`` ends the pause.

    ``has_descriptors`` is called before each connection, so that descriptors are left for the connections
    that are accepted already.  A ``gate`` is called as well, if several processes share the socket.
    """

    loop: Loop
    socket: Any
    addressFamily: int
    factory: Any
    reactor: Any
    connected: bool
    disconnecting: bool

    has_descriptors: Callable[[], bool] = staticmethod(lambda: True)
    gate: Gate | None = None
    host: Any = None
    """The local address of all connections, or None if the port is bound to every address."""
    no_delay = False
    """Whether accepted connections have TCP_NODELAY, which Linux passes on from the listening socket."""

    _retry: IDelayedCall | None = None
    """The end of a pause, None while the port accepts or was told not to."""

    def startReading(self) -> None:
        """Accept in the loop of the streams, which takes a sixth of an event of the reactor.

        If the loop has no memory for the port, the port pauses.
        """
        self._end_pause()
        try:
            self.loop.addReader(self)
        except OSError as error:
            self._pause_accepting(os.strerror(error.errno or 0))

    def stopReading(self) -> None:
        self._end_pause()
        self.loop.removeReader(self)

    def doRead(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self.disconnecting or not self.connected:  # a protocol has closed this port
                return
            if not self.has_descriptors():
                self._pause_accepting("few descriptors are left")
                return
            if self.gate is not None and not self.gate.may_accept():
                return
            try:
                fd, name = self.socket._accept()
                self.loop.accepted += 1
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _CONNECTION_ERRORS:
                    self.loop.accepted += 1
                    continue
                self._pause_accepting(os.strerror(error.errno or 0))
                return
            try:
                self._accept(socket.SocketType(self.addressFamily, _STREAM, 0, fd), name)
            except BaseException:
                _log.failure("an accepted connection could not be attached to its protocol, it is closed")

    def _accept(self, sock: socket.SocketType, name: Any) -> None:
        """Attach an accepted connection to its protocol; close it, and do not count it, if that fails."""
        owner: ConnectionOwner | None = None
        try:
            sock.setblocking(False)
            address = address_of(self.addressFamily, name)
            protocol = self.factory.buildProtocol(address)
            if protocol is None:
                sock.close()
                return
            owner = None if self.gate is None else self.gate.count_connection()
            stream = TCPStream(sock, protocol, self.loop, address, owner)
            stream.set_inherited(self.host, self.no_delay)
        except BaseException:
            sock.close()
            if owner is not None:
                owner.connectionLost(Failure())
            raise
        attach_protocol(protocol, stream)

    def _pause_accepting(self, why: str) -> None:
        self.stopReading()
        self._retry = self.reactor.callLater(ACCEPT_RETRY, self._resume_accepting)
        now = self.reactor.seconds()
        if not _last_logged or not 0 <= now - _last_logged[0] < LOG_INTERVAL:
            _last_logged[:] = [now]
            _log.error(
                "accepting connections is paused, new connections wait in the kernel's queue: {why}", why=why
            )

    def _end_pause(self) -> None:
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()

    def _resume_accepting(self) -> None:
        self._retry = None
        if self.connected and not self.disconnecting:
            self.startReading()


class TCPPort(_Accepting, tcp.Port):  # type: ignore[misc]
    """A TCP port.

    Linux copies TCP_NODELAY to a connection at its handshake.  The port's own socket gets it before it
    listens.  An adopted socket may have a queue of connections already, and so it keeps its option as it is.
    """

    def createInternetSocket(self) -> Any:
        sock = super().createInternetSocket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return sock

    def startListening(self) -> None:
        super().startListening()
        self.no_delay = bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        host = self.getHost()
        self.host = None if host.host in _ANY else host


class UNIXPort(_Accepting, unix.Port):  # type: ignore[misc]
    """A port on a unix socket.

    A port that adopts a listening socket leaves the socket and its path to the process that created them.
    Twisted's own port would set the path's mode, remove the path when it is closed, and shut the socket down
    for all processes that share it.
    """

    _adopted = False
    _bound_file: os.stat_result | None = None

    def startListening(self) -> None:
        if self._preexistingSocket is None:
            super().startListening()
            with suppress(OSError, ValueError):  # an abstract address has no file, and a NUL in front
                self._bound_file = os.lstat(self._bindPath)
            return
        self._adopted, self._shouldShutdown = True, False
        tcp._reservedFD.reserve()
        self.factory.doStart()
        self.socket, self._preexistingSocket = self._preexistingSocket, None
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected, self.numberAccepts = True, 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        """Close the socket, and remove its file unless another process has bound the path since."""
        if not self._adopted:
            with suppress(OSError, ValueError):
                if self._bound_file and os.path.samestat(os.lstat(self._bindPath), self._bound_file):
                    os.unlink(self._bindPath)
            if self.lockFile is not None:
                with suppress(OSError, ValueError):  # ValueError: the lock is another process's now
                    self.lockFile.unlock()
        tcp.Port.connectionLost(self, reason)

"""Listening ports whose connections are streams, and which wait where nothing can be accepted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import tcp, unix
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.net.transport.interfaces import ConnectionOwner, Loop, address_of
from esxiproxy.net.transport.stream import attach_protocol
from esxiproxy.net.transport.tcp import TCPStream

ACCEPTS_PER_TURN = 64
"""Connections accepted in a turn: whoever is connected already is not kept waiting by a crowd at the door."""
ACCEPT_RETRY = 0.1
"""Seconds until a port tries again when there is nothing left to accept with."""
LOG_INTERVAL = 5.0
"""Seconds between two complaints, whichever port has them: what is short is short for all of them."""

_OF_ONE_CLIENT = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,  # the packet filter's no
        errno.EINTR,
        # accept(2): Linux passes on what has befallen the new connection.
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
"""That connection is gone; the next one may be well."""

_log = Logger()
_complained: list[float] = []


class Gate(Protocol):
    """Says whether the next connection is for this process, and counts those that came."""

    def may_accept(self) -> bool:
        """Whether to accept; after a no, it is the gate that has the port read again."""

    def count_connection(self) -> ConnectionOwner:
        """One was accepted; what is returned hears of its end."""


class _Accepting:
    """Accepts connections while it may.

    Where the system has no descriptor or no memory left for one more (EMFILE, ENFILE, ENOBUFS, ENOMEM), it
    rests and tries again.  Connections wait in the kernel's queue meanwhile: Twisted's own port accepts and
    drops all of them, with a line in the log for each.

    ``room`` is asked before each connection whether there is a descriptor for it, so that none is taken from
    those who were let in before.  A ``gate`` is asked as well, where several processes share the socket.
    """

    loop: Loop
    socket: Any
    addressFamily: int
    factory: Any
    reactor: Any
    connected: bool
    disconnecting: bool
    startReading: Callable[[], None]
    stopReading: Callable[[], None]

    has_descriptors: Callable[[], bool] = staticmethod(lambda: True)
    gate: Gate | None = None

    def doRead(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self.disconnecting or not self.connected:  # a protocol has stopped us
                return
            if not self.has_descriptors():
                self._pause_accepting("few descriptors are left")
                return
            if self.gate is not None and not self.gate.may_accept():
                return
            try:
                sock, name = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OF_ONE_CLIENT:
                    continue
                self._pause_accepting(os.strerror(error.errno or 0))
                return
            try:
                self._accept(sock, name)
            except Exception:
                _log.failure("a connection was accepted, could not be served, and is closed")

    def _accept(self, sock: Any, name: Any) -> None:
        """Give an accepted connection its protocol; one that cannot have any is closed and counts no more."""
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
        except BaseException:
            sock.close()
            if owner is not None:
                owner.connectionLost(Failure())
            raise
        attach_protocol(protocol, stream)

    def _pause_accepting(self, why: str) -> None:
        self.stopReading()
        self.reactor.callLater(ACCEPT_RETRY, self._resume_accepting)
        now = self.reactor.seconds()
        if not _complained or not 0 <= now - _complained[0] < LOG_INTERVAL:
            _complained[:] = [now]
            _log.error("connections have to wait until there is room for them: {why}", why=why)

    def _resume_accepting(self) -> None:
        if self.connected and not self.disconnecting:
            self.startReading()


class TCPPort(_Accepting, tcp.Port):  # type: ignore[misc]
    """A TCP port."""


class UNIXPort(_Accepting, unix.Port):  # type: ignore[misc]
    """A unix socket's port.

    One that was taken over leaves its socket and its name to whoever made them: Twisted's own would set the
    name's mode, remove the name at its end, and shut the socket down for everybody who shares it.
    """

    _adopted = False

    def startListening(self) -> None:
        if self._preexistingSocket is None:
            super().startListening()
            return
        self._adopted, self._shouldShutdown = True, False
        tcp._reservedFD.reserve()
        self.factory.doStart()
        self.socket, self._preexistingSocket = self._preexistingSocket, None
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected, self.numberAccepts = True, 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        lost = tcp.Port.connectionLost if self._adopted else unix.Port.connectionLost
        lost(self, reason)

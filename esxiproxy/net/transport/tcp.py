"""The transport without TLS, for TCP and unix sockets."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    ITCPTransport,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.constants import READ_SIZE
from esxiproxy.net.transport.interfaces import ConnectionOwner, DoReadResult, Loop
from esxiproxy.net.transport.stream import Stream

_log = Logger()


@implementer(ITCPTransport, IHalfCloseableDescriptor)
class TCPStream(Stream):
    """A transport that reads and writes its socket without TLS."""

    __slots__ = ("_half_closed", "_half_closing")

    FAST_PATH_BLOCKERS = ("_half_closed",)

    def __init__(
        self,
        sock: socket.SocketType,
        protocol: Any,
        loop: Loop,
        peer: Any,
        owner: ConnectionOwner | None = None,
    ) -> None:
        super().__init__(sock, protocol, loop, peer, owner)
        self._half_closing = self._half_closed = False
        loop.addReader(self)

    # The fast path

    def doRead(self, octets: bytes | None = None) -> DoReadResult:
        fast_path = self._fast_path
        try:
            if octets is None:
                octets = fast_path() if fast_path is not None else b""
                if octets is None:
                    return None
            octets = octets or self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not octets:
            return CONNECTION_DONE
        self.protocol.dataReceived(octets)
        return None

    def write(self, octets: bytes) -> None:
        if not self.connected or self._half_closed:
            return
        if not self._write_buffer.size:
            try:
                sent = self.socket.send(octets)
            except OSError:  # full, or an error, which the loop reports
                sent = 0
            if sent == len(octets):
                if self.producer is not None and not self._streaming:
                    self._start_writing()  # resumes a pull producer in the next turn
                return
            octets = octets[sent:] if sent else octets
        self._queue(bytes(octets))

    def doWrite(self) -> DoReadResult:
        buffer = self._write_buffer
        if buffer.size:
            try:
                buffer.consume(self.socket.send(buffer.front()))
            except BlockingIOError:
                return None
            except OSError:
                return CONNECTION_LOST
            if buffer.size:
                return None
        return self._resume_or_close()

    # Closing

    def _continue_closing(self) -> DoReadResult:
        if self.disconnecting:
            return CONNECTION_DONE
        if self._half_closing and not self._half_closed:
            self._half_closed = True
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            self._notify("writeConnectionLost")
        return None

    def loseConnection(self) -> None:
        """Stop reading, write the buffered bytes, then close."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._reading = False
            self._stop_reading()
            self._write_soon()

    def loseWriteConnection(self) -> None:
        """Write the buffered bytes, then send a FIN.  Reading continues."""
        if self.connected:
            self._half_closing = True
            self._write_soon()

    def readConnectionLost(self, reason: Failure) -> None:
        """Handle the peer's FIN: close the connection, unless the protocol is an IHalfCloseableProtocol."""
        if not self._notify("readConnectionLost"):
            self.connectionLost(reason)

    def writeConnectionLost(self, reason: Failure) -> None:
        self.connectionLost(reason)

    def _notify(self, half: str) -> bool:
        """Call this method of an IHalfCloseableProtocol, and return whether the protocol is one."""
        if getattr(self.protocol, half, None) is None:  # most protocols; asking the interface takes longer
            return False
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            return False
        try:
            getattr(protocol, half)()
        except BaseException:
            failure = Failure()
            _log.failure(
                "a protocol raised an exception in {half}, its connection is closed", failure, half=half
            )
            self.connectionLost(failure)
        return True

"""The base class of the plain and the TLS transport: write buffer, producers, and closing."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IPushProducer,
    IReadWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.connected_socket import ConnectedSocket
from esxiproxy.net.transport.constants import HIGH_WATER
from esxiproxy.net.transport.interfaces import ConnectionOwner, DoReadResult, FastPath, Loop
from esxiproxy.net.transport.write_buffer import WriteBuffer

_log = Logger()
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@implementer(IConsumer, IPushProducer, IReadWriteDescriptor, ILoggingContext)
class Stream(ConnectedSocket):
    """A transport on a connected socket, which the loop serves.

    The protocol's ``connectionLost`` is never called while the protocol calls the transport.  The loop
    reports an error of such a call.
    """

    __slots__ = (
        "__weakref__",
        "_aborting",
        "_fast_path",
        "_host",
        "_loop",
        "_no_delay",
        "_owner",
        "_peer",
        "_producer_paused",
        "_reading",
        "_streaming",
        "_write_buffer",
        "connected",
        "disconnected",
        "disconnecting",
        "fileno",
        "producer",
        "protocol",
        "socket",
    )

    FAST_PATH_BLOCKERS: tuple[str, ...]
    """Names of the slots that are all False or None while a fast path may use the stream."""

    def __init__(
        self,
        sock: socket.SocketType,
        protocol: Any,
        loop: Loop,
        peer: Any,
        owner: ConnectionOwner | None = None,
    ) -> None:
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self.connected = True
        self.disconnected = self.disconnecting = False
        self.producer: Any = None
        self._streaming = self._producer_paused = self._aborting = False
        self._reading = True
        self._write_buffer = WriteBuffer()
        self._loop, self._owner = loop, owner
        self._peer, self._host = peer, None
        self._no_delay = False
        self._fast_path: FastPath | None = None
        if owner is not None:
            owner.transport = self

    # Events from the loop

    def doRead(self, octets: bytes | None = None) -> DoReadResult:
        """Read from the socket, and pass the bytes to the protocol.

        ``octets`` is a FastPathResult other than None, if a fast path was called for this event already.
        """
        raise NotImplementedError

    def doWrite(self) -> DoReadResult:
        raise NotImplementedError

    def logPrefix(self) -> str:
        return type(self.protocol).__name__

    # Writing

    def write(self, octets: bytes) -> None:
        raise NotImplementedError

    @property
    def unsent_bytes(self) -> int:
        """Number of bytes in the write buffer."""
        return self._write_buffer.size

    def writeSequence(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def set_fast_path(self, fast_path: FastPath | None) -> None:
        """Call this function in place of reading from the socket; None ends that."""
        self._fast_path = fast_path

    def _queue(self, octets: bytes | memoryview) -> None:
        """Append bytes to the write buffer, and pause the producer above the high-water mark."""
        buffer = self._write_buffer
        buffer.append(octets)
        self._start_writing()
        if buffer.size > HIGH_WATER and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self.producer.pauseProducing()

    def _resume_or_close(self) -> DoReadResult:
        """Resume the producer, or continue closing, after the write buffer was emptied."""
        self._stop_writing()
        if self.producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self.producer.resumeProducing()
            return None
        return self._continue_closing()

    def _continue_closing(self) -> DoReadResult:
        """Continue closing, if that was requested: nothing is left to be written."""
        raise NotImplementedError

    # Consumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer}: {self.producer} was never unregistered")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = bool(streaming)
        self._producer_paused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._streaming = self._producer_paused = False
        if self.connected and self.disconnecting:
            self._start_writing()

    # Producer

    def pauseProducing(self) -> None:
        self._reading = False
        if self.connected:
            self._stop_reading()

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self._reading = True
            self._start_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    # Registration with the loop, which a TLS stream overrides

    def _start_reading(self) -> None:
        self._loop.addReader(self)

    def _stop_reading(self) -> None:
        self._loop.removeReader(self)

    def _start_writing(self) -> None:
        if self.connected:
            self._loop.addWriter(self)

    def _stop_writing(self) -> None:
        self._loop.removeWriter(self)

    # Closing

    def loseConnection(self) -> None:
        raise NotImplementedError

    def _write_soon(self) -> None:
        """Let the loop call ``doWrite``, which continues closing: at once if nothing has to be written."""
        if self._write_buffer.size or self.producer is not None:
            self._start_writing()
        else:
            self._loop.serve_soon(self)

    def abortConnection(self) -> None:
        """Discard the write buffer and reset the connection.

        The protocol's ``connectionLost`` is called when the events of this turn are served.
        """
        if not self.connected:
            return
        self._aborting = True
        self.connected = self._reading = False
        self._loop.remove(self)
        self._loop.serve_soon(self, ConnectionAborted())

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket, and notify the protocol and the owner; ignore a second call."""
        if self.disconnected:
            return
        self.disconnected, self.connected, self._reading = True, False, False
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self._loop.remove(self)
        self._write_buffer.clear()
        if self._aborting:
            _reset_on_close(self.socket)
        self._close()
        protocol, owner = self.protocol, self._owner
        self.protocol = self._owner = self._fast_path = None
        try:
            protocol.connectionLost(reason)
        finally:
            if owner is not None:
                owner.connectionLost(reason)
                owner.transport = None if owner.transport is self else owner.transport

    def _close(self) -> None:
        self.socket.close()

    def _give_up_socket(self) -> None:
        """Leave the loop without closing the socket, which another stream serves from now on."""
        self._loop.remove(self)
        self.connected, self.disconnected = False, True
        self.protocol = self._owner = None


def hand_over(transport: Any, protocol: Any, connect: bool = True) -> None:
    """Make ``protocol`` the protocol of a connection, and call its ``makeConnection``.

    The transport calls ``dataReceived`` and ``connectionLost`` of this protocol from now on, and of no other.
    A connection has several protocols while it is opened, one after the other:

    * An accepted connection: the PROXY header's ``ProxyProtocolWrapper``, then ``TLSStart``, then
      ``Dispatch``, then the ``Frontend`` of a console.  Plain HTTP stays with ``Dispatch``.
    * A dialled connection: the wrapper of Twisted's endpoint, then the PROXY header's ``_HeaderWriter``, then
      ``TLSStart``, then the protocol that was dialled.

    Each of them calls this function when it has done its part, and is not called again.  ``TLSStart`` moves
    the socket to a ``TLSStream`` as well, and the protocol is handed over to that stream.

    ``connect`` is False for a protocol whose ``makeConnection`` is called elsewhere: before, by the wrapper
    of Twisted's endpoint, or later, with the ``TLSStream``.  An exception of ``makeConnection`` is
    raised; the protocol keeps the connection and gets its ``connectionLost``.

    ``transport`` is a :class:`Stream` or a TCP transport of Twisted's.  A transport that passes its calls
    through a protocol of its own (Twisted's TLS, ``ProtocolWrapper``) keeps that protocol: ``Dispatch`` and
    ``_HeaderWriter`` forward the calls of such a transport.
    """
    transport.protocol = protocol
    if connect:
        protocol.makeConnection(transport)


def attach_protocol(protocol: Any, stream: Any) -> None:
    """Hand a stream over to a protocol; log an exception of ``makeConnection`` and end the stream."""
    try:
        hand_over(stream, protocol)
    except BaseException:
        failure = Failure()
        _log.failure("a protocol raised an exception in makeConnection, its connection is closed", failure)
        stream.connectionLost(failure)


def _reset_on_close(sock: socket.SocketType) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

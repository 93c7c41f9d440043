"""What the plain and the TLS transport have in common: the queue, producers, and the end."""

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
    """A connected socket, which the loop serves, with a protocol on it.

    ``connectionLost`` of the protocol is never called in the stack of a call of the protocol's: whatever goes
    wrong there is left for the loop to find.
    """

    __slots__ = (
        "__weakref__",
        "_aborting",
        "_fast_path",
        "_host",
        "_loop",
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
    """What is false, or None, of a stream whose bytes may take a fast path: names of slots."""

    def __init__(
        self, sock: socket.socket, protocol: Any, loop: Loop, peer: Any, owner: ConnectionOwner | None = None
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
        self._fast_path: FastPath | None = None
        if owner is not None:
            owner.transport = self

    # The loop asks

    def doRead(self, octets: bytes | None = None) -> DoReadResult:
        """Read; ``octets`` is what a fast path has read, and left to the protocol: it may be nothing."""
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
        """Bytes that wait for the socket."""
        return self._write_buffer.size

    def writeSequence(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def set_fast_path(self, way: FastPath | None) -> None:
        """Read in another way from here on; None is the usual one."""
        self._fast_path = way

    def _queue(self, octets: bytes | memoryview) -> None:
        """The slow half of a write: the socket takes no more now."""
        outbox = self._write_buffer
        outbox.put(octets)
        self._start_writing()
        if outbox.size > HIGH_WATER and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self.producer.pauseProducing()

    def _drained(self) -> DoReadResult:
        """The queue is empty: whoever waited for that goes on.  Answers as ``doWrite`` does."""
        self._stop_writing()
        if self.producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self.producer.resumeProducing()
            return None
        return self._written()

    def _written(self) -> DoReadResult:
        """Nothing is queued and no producer waits: end what is to be ended."""
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

    # Interest.  TLS has its own view of it.

    def _start_reading(self) -> None:
        self._loop.addReader(self)

    def _stop_reading(self) -> None:
        self._loop.removeReader(self)

    def _start_writing(self) -> None:
        if self.connected:
            self._loop.addWriter(self)

    def _stop_writing(self) -> None:
        self._loop.removeWriter(self)

    # The end

    def loseConnection(self) -> None:
        raise NotImplementedError

    def abortConnection(self) -> None:
        """Drop everything, with a reset; the protocol hears of it in the next turn."""
        if not self.connected:
            return
        self._aborting = True
        self.connected = self._reading = False
        self._loop.removeReader(self)
        self._loop.removeWriter(self)
        self._loop.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """The end: called by the loop, once, whatever the cause."""
        if self.disconnected:
            return
        self.disconnected, self.connected, self._reading = True, False, False
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self._loop.removeReader(self)
        self._loop.removeWriter(self)
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
        self._loop.removeReader(self)
        self._loop.removeWriter(self)
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
    except Exception:
        failure = Failure()
        _log.failure("a protocol raised in makeConnection", failure)
        stream.connectionLost(failure)


def _reset_on_close(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

"""An in-memory connection with bounded buffers, which honours pauses and tells an abort from a close.

Twisted's iosim transports ignore pause and resume, and close when they are aborted.  The tested protocol is
at the near end.  The test controls the far end: what it sends and reads, and when it disconnects.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

HIGH_WATER = 65536


@implementer(ITransport)
class MemoryTransport:
    """The transport of the near end.  ``Wire.pump`` delivers the bytes."""

    def __init__(self, wire):
        self.wire = wire
        self.queue = b""
        self.producer = None
        self.blocked = False
        self.reading = True
        self.connected = True
        self.disconnecting = False
        self.half_closed = False
        self.no_delay = False

    def getHandle(self):
        return self

    def get_servername(self):
        return None

    def get_peer_certificate(self):
        return None

    def setTcpNoDelay(self, enabled):
        self.no_delay = enabled

    def write(self, octets):
        assert isinstance(octets, bytes)
        if not self.connected or self.half_closed or self.disconnecting:
            return
        self.queue += octets
        if self.producer is not None and not self.blocked and len(self.queue) > HIGH_WATER:
            self.blocked = True
            self.producer.pauseProducing()

    @property
    def unsent_bytes(self):
        """The number of bytes that the far end has not received."""
        return len(self.queue)

    def writeSequence(self, many):
        self.write(b"".join(many))

    def registerProducer(self, producer, streaming):
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def pauseProducing(self):
        self.reading = False

    def resumeProducing(self):
        if self.connected and not self.disconnecting:
            self.reading = True

    def loseConnection(self):
        self.disconnecting = True
        self.reading = False

    def loseWriteConnection(self):
        self.half_closed = True

    def abortConnection(self):
        if self.connected:
            self.wire.aborted = True

    def getPeer(self):
        return IPv4Address("TCP", "198.51.100.7", 40000)

    def getHost(self):
        return IPv4Address("TCP", "127.0.0.1", 80)


class Wire:
    """One connection, with the tested protocol at the near end and the test at the far end."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.transport = MemoryTransport(self)
        self.incoming = []
        self.received = b""
        self.takes = None
        self.far_closed = None
        self.aborted = False
        self.ended = None
        protocol.makeConnection(self.transport)

    # The far end

    def send(self, octets, chunk=None):
        """Send bytes to the protocol, in one piece or in chunks of that size."""
        step = chunk or len(octets) or 1
        self.incoming += [octets[i : i + step] for i in range(0, len(octets), step)]

    def close(self):
        """Send a FIN."""
        self.far_closed = Failure(ConnectionDone())

    def reset(self):
        """Send an RST."""
        self.far_closed = Failure(ConnectionLost())

    def block(self):
        """Stop reading."""
        self.takes = 0

    def unblock(self, takes=None):
        """Read again, without a limit or up to so many bytes."""
        self.takes = takes

    @property
    def saw_fin(self):
        """Whether the near end has closed, and all its bytes were delivered."""
        return (self.ended == "lost" or self.transport.half_closed) and not self.transport.queue

    # The wire

    def pump(self):
        """Deliver all bytes that can be delivered; return whether there were any."""
        if self.ended:
            return False
        moved = False
        transport = self.transport
        if self.aborted:
            self._end("aborted", Failure(ConnectionAborted()))
            return True
        if transport.queue and self.takes != 0:
            count = len(transport.queue) if self.takes is None else min(self.takes, len(transport.queue))
            self.received += transport.queue[:count]
            transport.queue = transport.queue[count:]
            if self.takes is not None:
                self.takes -= count
            moved = True
        if not transport.queue and transport.blocked:
            transport.blocked = False
            if transport.producer is not None:
                transport.producer.resumeProducing()
            moved = True
        if transport.disconnecting and not transport.queue:
            self._end("lost", Failure(ConnectionDone()))
            return True
        if transport.reading and self.incoming:
            self.protocol.dataReceived(self.incoming.pop(0))
            return True
        if transport.reading and not self.incoming and self.far_closed is not None:
            self._end("far", self.far_closed)
            return True
        return moved

    def _end(self, how, reason):
        self.ended = how
        self.transport.connected = False
        if self.transport.producer is not None:
            self.transport.producer.stopProducing()
        self.protocol.connectionLost(reason)

"""Starts TLS on an accepted or dialled connection."""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from esxiproxy.net.transport.resumption import Resumption
from esxiproxy.net.transport.stream import attach_protocol, hand_over
from esxiproxy.net.transport.tcp import TCPStream
from esxiproxy.net.transport.tls import TLSStream


class Creator(Protocol):
    """A creator of OpenSSL connections on a socket.

    :class:`~esxiproxy.net.tls.server.CurrentContext` is one.  A creator has to be a connection creator of
    Twisted's as well, for transports that are not streams.
    """

    def connection(self, socket: Any = None) -> SSL.Connection:
        """Return a new connection in its connect or accept state, with the server name set."""


class TLSStart(BufferingTLSTransport):
    """The start of TLS on a transport.

    It replaces a TCPStream by a TLSStream, and then is not called again.  On any other transport it is
    Twisted's TLS.
    """

    factory: TLSFactory
    has_received = False
    """Whether the peer has sent at least one byte, as in a TLSStream."""

    def dataReceived(self, data: bytes) -> None:
        self.has_received = True
        super().dataReceived(data)

    def makeConnection(self, transport: Any) -> None:
        factory = self.factory
        if factory.creator is None or not isinstance(transport, TCPStream):
            super().makeConnection(transport)
            return
        protocol = self.wrappedProtocol
        vars(self).clear()  # breaks a reference cycle that Twisted's TLS made in __init__
        hand_over(transport, protocol, connect=False)  # if no TLSStream is made, it gets connectionLost
        connection = factory.creator.connection(transport.socket)
        if factory.is_client and factory.resumption is not None:
            factory.resumption.offer(connection)
        stream = TLSStream(transport, protocol, connection, factory.resumption)
        TwistedProtocol.makeConnection(self, stream)
        attach_protocol(protocol, stream)
        stream.start(factory.is_client)


class TLSFactory(TLSMemoryBIOFactory):
    """A replacement of ``TLSMemoryBIOFactory`` with TLS on the socket itself where that is possible.

    A creator without a ``connection`` method, such as Twisted's own, gets Twisted's TLS.
    """

    protocol = TLSStart
    noisy = False

    def __init__(
        self,
        creator: Any,
        is_client: bool,
        factory: Any,
        clock: IReactorTime,
        resumption: Resumption | None = None,
    ) -> None:
        super().__init__(creator, is_client, factory, clock=clock)
        self.creator: Creator | None = creator if hasattr(creator, "connection") else None
        self.is_client = is_client
        self.resumption = resumption if is_client else None

    def buildProtocol(self, addr: Any) -> Any:
        """Return the protocol, or None if the wrapped factory does; Twisted's method requires a protocol."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)

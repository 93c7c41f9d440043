"""Puts TLS on a stream, whatever the stream is."""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from esxiproxy.net.transport.resumption import Resumption
from esxiproxy.net.transport.stream import attach_protocol, hand_over
from esxiproxy.net.transport.tcp import TCPStream
from esxiproxy.net.transport.tls import TLSStream


class Creator(Protocol):
    """What makes connections on a socket (:class:`~esxiproxy.net.tls.server.CurrentContext`, for one).

    It is a connection creator of Twisted's as well, for where there is no stream of ours.
    """

    def connection(self, socket: Any = None) -> SSL.Connection:
        """A fresh connection in its connect or accept state, server name and all."""


class TLSStart(BufferingTLSTransport):
    """On a stream of ours it gives way to a TLSStream; on any other transport it is Twisted's own TLS."""

    factory: TLSFactory
    heard = False
    """As a TLSStream has it."""

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
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
    """Stands where ``TLSMemoryBIOFactory`` would: TLS on the socket where that can be, and else Twisted's.

    Twisted's own creators know memory only, and so they get Twisted's TLS.
    """

    protocol = TLSStart
    noisy = False

    def __init__(
        self, creator: Any, is_client: bool, factory: Any, clock: Any, resumption: Resumption | None = None
    ) -> None:
        super().__init__(creator, is_client, factory, clock=clock)
        self.creator: Creator | None = creator if hasattr(creator, "connection") else None
        self.is_client = is_client
        self.resumption = resumption if is_client else None

    def buildProtocol(self, addr: Any) -> Any:
        """None where the wrapped factory wants no connection, which Twisted's does not know of."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)

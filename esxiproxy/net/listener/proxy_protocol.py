"""The PROXY protocol on a listener: reads the header, which precedes everything else, even TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.proxy_protocol import MAX_V2, ProxyHeader, ProxyHeaderReader, ProxyProtocolError
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.transport.stream import attach_protocol
from esxiproxy.net.transport.tcp import TCPStream

_PEEK_SIZE = 16 + MAX_V2


class ProxyProtocolWrapper(ProtocolWrapper):
    """A connection that begins with a PROXY header.

    The wrapped protocol is connected after the header was read, and sees the addresses that the header
    names.  On a ``TCPStream`` it then gets the transport itself.  On any other transport this wrapper stays
    between the two.  A connection without a valid header is aborted without a response.
    """

    _log = Logger()
    factory: ProxyProtocolFactory

    def __init__(self, factory: ProxyProtocolFactory, protocol: Any) -> None:
        super().__init__(factory, protocol)  # type: ignore[arg-type]
        self._header_read = False
        self._reader: ProxyHeaderReader | None = ProxyHeaderReader()
        self._proxy_header = ProxyHeader()
        self._deadline: IDelayedCall | None = None
        self._handshake_slot: Slot | None = None

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        if not self.factory.trust.contains(getattr(transport.getPeer(), "host", "unix")):
            self._refuse("the peer is not one of trusted_proxies")
            return
        try:
            self._handshake_slot = self.factory.handshake()
        except SessionError as error:
            self._refuse(str(error))
            return
        if isinstance(transport, TCPStream):
            transport.set_fast_path(self._peek)
        self._deadline = self.factory.clock.callLater(self.factory.timeout, self._on_timeout)

    def _peek(self) -> bytes | None:
        """Read the header, and nothing after it, from the socket: TLS reads the rest from there itself."""
        stream: Any = self.transport
        octets = stream.socket.recv(_PEEK_SIZE, socket.MSG_PEEK)
        if not octets:
            return b""
        rest = self._read_header(octets)
        stream.socket.recv(len(octets) - len(rest or b""))
        if rest is not None:  # the wrapped protocol takes the transport over
            self.factory.unregisterProtocol(self)
            stream.set_fast_path(None)
            stream.set_addresses(
                _endpoint(self._proxy_header.source), _endpoint(self._proxy_header.destination)
            )
            attach_protocol(self.wrappedProtocol, stream)
        return None

    def dataReceived(self, data: bytes) -> None:
        if self._header_read:
            self.wrappedProtocol.dataReceived(data)
        elif (rest := self._read_header(data)) is not None:
            self._header_read = True
            self.wrappedProtocol.makeConnection(self)  # type: ignore[arg-type]
            if rest:
                self.wrappedProtocol.dataReceived(rest)

    def _read_header(self, octets: bytes) -> bytes | None:
        """Return the bytes after the header; None while it is incomplete, or after a refusal."""
        if self._reader is None:
            return None
        try:
            read = self._reader.feed(octets)
        except ProxyProtocolError as error:
            self._refuse(str(error))
            return None
        if read is None:
            return None
        self._proxy_header, rest = read
        self._reader = None
        self._disarm()
        return rest

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._disarm()
        self.factory.unregisterProtocol(self)
        if self._header_read:
            self.wrappedProtocol.connectionLost(reason)

    def getPeer(self) -> Any:
        return _endpoint(self._proxy_header.source) or self._connected_transport().getPeer()

    def getHost(self) -> Any:
        return _endpoint(self._proxy_header.destination) or self._connected_transport().getHost()

    def _connected_transport(self) -> Any:
        assert self.transport is not None
        return self.transport

    def _on_timeout(self) -> None:
        """Abort the connection, and log it unless nothing at all was received."""
        if self._reader:
            self._refuse(f"no complete PROXY header within {self.factory.timeout:g} s")
        else:
            self._reader = None
            self._disarm()
            self._connected_transport().abortConnection()

    def _refuse(self, why: str) -> None:
        self._reader = None
        self._disarm()
        transport = self._connected_transport()
        self._log.info(
            "connection of {peer} aborted: {why}", peer=str(PeerAddress.of(transport.getPeer())), why=why
        )
        transport.abortConnection()

    def _disarm(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._handshake_slot is not None:
            self._handshake_slot.release()


class ProxyProtocolFactory(WrappingFactory):
    """A wrapper around a listener's factory, outside of TLS.

    ``trust`` names the proxies whose headers are accepted.  Without networks any peer is accepted, since such
    a port is meant for proxies only.  ``timeout`` is the time in seconds for the complete header.
    ``handshake`` returns a handshake slot, which is kept until the header is read, or raises LimitReached.
    """

    protocol = ProxyProtocolWrapper
    noisy = False

    def __init__(
        self,
        factory: Factory,
        clock: IReactorTime,
        timeout: float,
        trust: TrustedProxies | None,
        handshake: Callable[[], Slot],
    ) -> None:
        super().__init__(factory)
        self.handshake = handshake
        self.clock = clock
        self.timeout = timeout
        self.trust = trust if trust is not None and (trust.networks or trust.unix) else TrustAll()


class TrustAll(TrustedProxies):
    """The trusted proxies of a listener that names none: every peer is one."""

    def contains(self, host: str) -> bool:
        return True


def _endpoint(address: PeerAddress | None) -> Any:
    if address is None:
        return None
    kind = IPv6Address if ":" in address.host else IPv4Address
    return kind("TCP", address.host, address.port)

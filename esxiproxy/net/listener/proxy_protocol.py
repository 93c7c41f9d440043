"""PROXY protocol on a listener: the header is taken off before anything else is, TLS included."""

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

_PEEK = 16 + MAX_V2


class ProxyProtocolWrapper(ProtocolWrapper):
    """One connection that has to begin with a PROXY header.

    The protocol behind it is connected only when the header is read: its peer is who the header names.  On
    other transports than ours the wrapper stays between the two.  A
    connection without a header is aborted without a word, since whoever sends none is no proxy of ours.
    """

    _log = Logger()
    factory: ProxyProtocolFactory

    def __init__(self, factory: ProxyProtocolFactory, protocol: Any) -> None:
        super().__init__(factory, protocol)  # type: ignore[arg-type]
        self._inside = False
        self._reader: ProxyHeaderReader | None = ProxyHeaderReader()
        self._proxy_header = ProxyHeader()
        self._call: IDelayedCall | None = None
        self._slot: Slot | None = None

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        if not self.factory.trust.contains(getattr(transport.getPeer(), "host", "unix")):
            self._refuse("not one of the trusted proxies")
            return
        try:
            self._slot = self.factory.handshake()
        except SessionError as error:
            self._refuse(str(error))
            return
        if isinstance(transport, TCPStream):
            transport.set_fast_path(self._peek)
        self._call = self.factory.clock.callLater(self.factory.timeout, self._late)

    def _peek(self) -> bytes | None:
        """On a stream of ours the header alone is read: TLS reads the rest from the socket itself."""
        stream: Any = self.transport
        octets = stream.socket.recv(_PEEK, socket.MSG_PEEK)
        if not octets:
            return b""
        rest = self._read_header(octets)
        stream.socket.recv(len(octets) - len(rest or b""))
        if rest is not None:  # and then this wrapper has nothing more to do with it
            self.factory.unregisterProtocol(self)
            stream.set_fast_path(None)
            stream.set_addresses(
                _endpoint(self._proxy_header.source), _endpoint(self._proxy_header.destination)
            )
            stream.protocol = self.wrappedProtocol
            attach_protocol(self.wrappedProtocol, stream)
        return None

    def dataReceived(self, data: bytes) -> None:
        if self._inside:
            self.wrappedProtocol.dataReceived(data)
        elif (rest := self._read_header(data)) is not None:
            self._inside = True
            self.wrappedProtocol.makeConnection(self)  # type: ignore[arg-type]
            if rest:
                self.wrappedProtocol.dataReceived(rest)

    def _read_header(self, octets: bytes) -> bytes | None:
        """What stands behind the header; None while there is more of it to come, or after a refusal."""
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
        if self._inside:
            self.wrappedProtocol.connectionLost(reason)

    def getPeer(self) -> Any:
        return _endpoint(self._proxy_header.source) or self._connected().getPeer()

    def getHost(self) -> Any:
        return _endpoint(self._proxy_header.destination) or self._connected().getHost()

    def _connected(self) -> Any:
        assert self.transport is not None
        return self.transport

    def _late(self) -> None:
        """End a connection whose header is late, without a word where nothing at all has come."""
        if self._reader:
            self._refuse(f"no whole PROXY header in {self.factory.timeout:g} s")
        else:
            self._reader = None
            self._disarm()
            self._connected().abortConnection()

    def _refuse(self, why: str) -> None:
        self._reader = None
        self._disarm()
        transport = self._connected()
        self._log.info("{peer} refused: {why}", peer=str(PeerAddress.of(transport.getPeer())), why=why)
        transport.abortConnection()

    def _disarm(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._slot is not None:
            self._slot.release()


class ProxyProtocolFactory(WrappingFactory):
    """Stands around a listener's factory, TLS and all.

    ``trust`` says whose headers are believed: without networks everybody's, since such a port is for proxies
    alone.  ``timeout`` is the time for the whole header.  ``handshake`` is asked for a slot for as long as
    that takes, and may raise LimitReached.
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
        self.trust = trust if trust is not None and (trust.networks or trust.unix) else TrustEverybody()


class TrustEverybody(TrustedProxies):
    """Believes everybody."""

    def contains(self, host: str) -> bool:
        return True


def _endpoint(address: PeerAddress | None) -> Any:
    if address is None:
        return None
    kind = IPv6Address if ":" in address.host else IPv4Address
    return kind("TCP", address.host, address.port)

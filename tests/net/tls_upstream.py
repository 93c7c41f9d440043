"""The TLS to an upstream over Twisted's TLS in memory, with a host that shows any certificates."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test import iosim
from zope.interface import implementer

from esxiproxy.core.errors import SessionError, UpstreamUntrusted
from esxiproxy.core.routing import Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.net.tls.client import UpstreamTLS
from tests.support.certificates import Authority, Certificate

REQUEST = b"GET /ticket/secret HTTP/1.1\r\n\r\n"
ESXI = Upstream("esxi1", "esxi1.test", 443, True, Verify.CA)


class Host(Protocol):
    """The upstream, which records what arrives and the SNI and ALPN of the client."""

    transport: Any
    received = b""
    server_name: bytes | None = None
    alpn = b""
    lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        connection = self.transport.getHandle()
        self.server_name, self.alpn = connection.get_servername(), connection.get_alpn_proto_negotiated()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


@implementer(IHandshakeListener)
class Client(Protocol):
    """A small backend: it sends the request after the peer is verified."""

    transport: Any
    error: SessionError | None = None
    raw: Any = None

    def __init__(self, tls: UpstreamTLS) -> None:
        self._tls = tls

    def handshakeCompleted(self) -> None:
        try:
            self._tls.verify_peer(self.transport)
        except SessionError as error:
            self.error = error
            self.transport.abortConnection()
        else:
            self.transport.write(REQUEST)

    def connectionLost(self, reason: Any = None) -> None:
        self.raw = reason.value
        if self.error is None:
            self.error = self._tls.explain(reason.value)


class Creator:
    """The TLS of a server without requirements of its own."""

    def __init__(self, *chain: Certificate, settings: Any = lambda context: None) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.set_cipher_list(b"ALL:@SECLEVEL=0")
        self.context.use_certificate(chain[0].certificate)
        key: Any = chain[0].key
        self.context.use_privatekey(key)
        for certificate in chain[1:]:
            self.context.add_extra_chain_cert(certificate.certificate)
        self.context.set_alpn_select_callback(lambda connection, offered: offered[0])
        settings(self.context)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def wrapped(creator: Any, is_client: bool, protocol: Protocol, clock: Clock) -> Any:
    from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
    from zope.interface import directlyProvides

    if not is_client:
        directlyProvides(creator, IOpenSSLServerConnectionCreator)
    factory = Factory.forProtocol(lambda: protocol)
    return TLSMemoryBIOFactory(creator, is_client, factory, clock=clock).buildProtocol(None)


def dial(tls: UpstreamTLS, creator: Any, host: Protocol | None = None) -> tuple[Client, Any]:
    """Connect to a server with this TLS, or without TLS for None; return both protocols."""
    clock, client, host = Clock(), Client(tls), host or Host()
    near = wrapped(tls, True, client, clock)
    far = host if creator is None else wrapped(creator, False, host, clock)
    pump = iosim.connect(
        far,
        iosim.FakeTransport(far, isServer=True),
        near,
        iosim.FakeTransport(near, isServer=False),
    )
    for _ in range(5):
        pump.flush()
        clock.advance(1)
    return client, host


def accepted(upstream: Upstream, *chain: Certificate, **more: Any) -> Host:
    client, host = dial(UpstreamTLS(upstream), Creator(*chain, **more))
    assert client.error is None, client.error
    assert host.received == REQUEST
    return host


def refused(upstream: Upstream, *chain: Certificate, **more: Any) -> str:
    """Check that this upstream is refused before it receives the request; return the message."""
    client, host = dial(UpstreamTLS(upstream), Creator(*chain, **more))
    assert host.received == b""
    assert isinstance(client.error, UpstreamUntrusted), client.raw
    assert "secret" not in str(client.error)
    return str(client.error)


def under(authority: Authority, host: str = "esxi1.test", **more: Any) -> Upstream:
    return replace(ESXI, host=host, ca=authority.path, **more)


def pinning(*pins: Pin, host: str = "192.0.2.10") -> Upstream:
    return replace(ESXI, host=host, verify=Verify.PIN, pins=pins)


def bare(digest: str) -> str:
    return digest.replace(":", "").lower()


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> None:
    """Do a handshake of two connections in memory."""
    for _ in range(4):
        for side, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                side.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(65536))

"""The TLS of a listener over Twisted's TLS in memory, and clients of OpenSSL."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory

from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.net.tls.server import CurrentContext, listener_context
from tests.support.certificates import Authority, Certificate


def serve(certificate: Certificate, **more: Any) -> ListenerTLS:
    return ListenerTLS(certificate.path, certificate.key_path, **more)


@dataclass(frozen=True)
class Pki:
    authority: Authority
    server: Certificate
    rsa: Certificate

    @property
    def tls(self) -> ListenerTLS:
        return serve(self.server)


class Line:
    """A Twisted TLS server that echoes, and the wire to it."""

    def __init__(self, creator: CurrentContext) -> None:
        self.lost: Any = None
        self.transport = StringTransport()
        factory = Factory.forProtocol(lambda: Echo(self))
        factory.noisy = False
        self.tls = TLSMemoryBIOFactory(creator, False, factory, clock=Clock()).buildProtocol(None)
        self.tls.makeConnection(self.transport)

    def exchange(self, octets: bytes) -> bytes:
        """Send these bytes, and return what the server answers."""
        if octets and not self.transport.disconnecting:
            self.tls.dataReceived(octets)
        answer = self.transport.value()
        self.transport.clear()
        if self.transport.disconnecting and self.tls.connected:
            self.tls.connectionLost(None)
        return answer


class Echo(Protocol):
    transport: Any

    def __init__(self, line: Line) -> None:
        self._line = line

    def dataReceived(self, data: bytes) -> None:  # Twisted's name
        self.transport.writeSequence([data])
        self.transport.factory._clock.advance(1)

    def connectionLost(self, reason: Any = None) -> None:
        self._line.lost = reason


class Client:
    """A client in memory with the TLS of the standard library, without pyOpenSSL."""

    def __init__(self, context: ssl.SSLContext, line: Line, name: str | None = "localhost") -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self.line = line

    def run(self, step: Any) -> Any:
        for _ in range(20):
            try:
                return step()
            except ssl.SSLWantReadError:
                answer = self.line.exchange(self._out.read())
                if answer:
                    self._in.write(answer)
                elif self.line.transport.disconnecting:
                    self._in.write_eof()
            except ssl.SSLError:
                self.line.exchange(self._out.read())
                raise
        raise AssertionError("the handshake does not end")

    def shake(self) -> Client:
        """Do a handshake and one echo, because in TLS 1.3 a server refuses after the client has finished."""
        self.run(self.tls.do_handshake)
        self.tls.write(b"ping")
        assert self.run(lambda: self.tls.read(4)) == b"ping"
        return self


def trusting(pki: Pki, **settings: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.authority.path)
    # Debian's OpenSSL configuration would forbid what some of these clients try.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def dial(pki: Pki, tls: ListenerTLS | None = None, context: ssl.SSLContext | None = None) -> Client:
    line = Line(CurrentContext(listener_context(tls or pki.tls)))
    return Client(context or trusting(pki), line).shake()


def pump(client: SSL.Connection, line: Line) -> None:
    """Move bytes in both directions until neither side has any."""
    while True:
        try:
            octets = client.bio_read(65536)
        except SSL.WantReadError:
            return
        answer = line.exchange(octets)
        if answer:
            client.bio_write(answer)
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()


def open_client(context: SSL.Context, line: Line) -> SSL.Connection:
    """Return a pyOpenSSL client, for cases that the standard library does not support."""
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    pump(client, line)
    return client

"""The HTTP client for requests of the proxy itself, on Twisted's Agent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL, crypto
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from esxiproxy.core.errors import ServiceUnavailable, SessionError
from esxiproxy.core.routing import Identity, Verify
from esxiproxy.core.thumbprint import pinned, strongest_pins
from esxiproxy.interfaces import Answer, IHttpClient
from esxiproxy.net.tls.pem import TLSFileError, read_certificates
from esxiproxy.net.tls.server import new_context

_MAX_AGENTS = 64
"""Maximum number of identities and sockets whose connections are pooled."""
_MAX_PER_HOST = 8
"""Maximum number of idle connections to one host."""
_SYSTEM = Identity()


@implementer(IHttpClient)
class HttpClient:
    """An HTTP client with pooled connections, one pool for each identity and each unix socket.

    Certificates are verified by the authorities of the machine unless a request has an identity.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._agents: OrderedDict[tuple[Identity, Path | None], Any] = OrderedDict()

    def request(
        self,
        method: str,
        url: str,
        fields: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        timeout: float = 10.0,
        max_body: int = 1 << 20,
        identity: Identity | None = None,
        socket: Path | None = None,
    ) -> Deferred[Answer]:
        where = _where(url, socket)
        sending = Deferred.fromCoroutine(
            self._request(method, url, fields, body, max_body, identity or _SYSTEM, socket)
        )

        def explain(failure: Failure) -> Any:
            if failure.check(SessionError):
                return failure
            if failure.check(TimeoutError):
                raise ServiceUnavailable(f"{where} did not answer within {timeout:g} s")
            if failure.check(CancelledError):
                return failure
            raise ServiceUnavailable(f"{where} cannot be asked: {_reason(failure)}") from failure.value

        sending.addTimeout(timeout, self._reactor)
        return sending.addErrback(explain)

    async def _request(
        self,
        method: str,
        url: str,
        fields: Sequence[tuple[bytes, bytes]],
        body: bytes,
        max_body: int,
        identity: Identity,
        socket: Path | None,
    ) -> Answer:
        headers = Headers()
        for name, value in fields:
            headers.addRawHeader(name, value)
        producer = FileBodyProducer(BytesIO(body)) if body else None
        agent = self._agent(identity, socket)
        response = await agent.request(method.encode("ascii"), url.encode("ascii"), headers, producer)
        where = _where(url, socket)
        received: Deferred[bytes] = Deferred(lambda _: response._transport.abortConnection())
        response.deliverBody(_Body(received, max_body, where))
        content = await received
        answered = tuple(
            (name.lower(), value) for name, values in response.headers.getAllRawHeaders() for value in values
        )
        return Answer(response.code, answered, content)

    def _agent(self, identity: Identity, socket: Path | None) -> Any:
        key = (identity, socket)
        agent = self._agents.pop(key, None)
        if agent is None:
            pool = HTTPConnectionPool(self._reactor)
            pool.maxPersistentPerHost = _MAX_PER_HOST
            if socket is not None:
                endpoints = _SocketEndpoints(self._reactor, socket)
                agent = Agent.usingEndpointFactory(self._reactor, endpoints, pool)
            else:
                agent = Agent(self._reactor, _Policy(identity), pool=pool)
        self._agents[key] = agent
        if len(self._agents) > _MAX_AGENTS:
            _key, oldest = self._agents.popitem(last=False)
            oldest._pool.closeCachedConnections()
        return agent


class _Body(Protocol):
    """Collects a body of at most ``most`` bytes."""

    transport: Any

    def __init__(self, received: Deferred[bytes], most: int, where: str) -> None:
        self._received = received
        self._most = most
        self._where = where
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            error = ServiceUnavailable(f"{self._where} sent a body of more than {self._most} bytes")
            self._end(Failure(error))
            self.transport.abortConnection()
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(b"".join(self._parts) if reason.check(ResponseDone) else reason)

    def _end(self, outcome: bytes | Failure) -> None:
        if not self._received.called:
            self._received.callback(outcome)


@implementer(IAgentEndpointFactory)
class _SocketEndpoints:
    """The endpoints of requests to a unix socket, whatever host their URL names."""

    def __init__(self, reactor: Any, path: Path) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: Any) -> UNIXClientEndpoint:
        return UNIXClientEndpoint(self._reactor, str(self._path))


@implementer(IPolicyForHTTPS)
class _Policy:
    """The rule for the certificates of servers: an identity."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        identity = self._identity
        if identity.certificate is not None or identity.verify in (Verify.PIN, Verify.NONE):
            return _PinnedConnections(identity)
        name = identity.server_name or hostname.decode("ascii")
        trust: Any = platformTrust()
        if identity.verify is Verify.CA:
            if identity.ca is None:
                raise TLSFileError("verify = ca without a ca file")
            authorities = [
                Certificate(crypto.X509.from_cryptography(certificate))
                for certificate in read_certificates(identity.ca)
            ]
            trust = trustRootFromCertificates(authorities)
        return optionsForClientTLS(name, trust)


@implementer(IOpenSSLClientConnectionCreator)
class _PinnedConnections:
    """TLS connections to a server with one of the pinned certificates, or with any certificate."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._context = new_context(SSL.TLS_CLIENT_METHOD)
        self._context.set_verify(SSL.VERIFY_PEER, self._verify)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        return connection

    def _verify(self, _connection: Any, certificate: crypto.X509, _code: int, depth: int, _ok: int) -> bool:
        if depth or self._identity.verify is Verify.NONE:
            return True
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if self._identity.certificate is not None:
            return der == self._identity.certificate
        return pinned(der, strongest_pins(self._identity.pins))


def _where(url: str, socket: Path | None) -> str:
    """Return scheme, host and port of a URL: its path and query may hold secrets."""
    if socket is not None:
        return str(socket)
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(failure: Failure) -> str:
    """Return the text of an error, with the first reason of a list of them."""
    reasons = getattr(failure.value, "reasons", None)
    error = reasons[0].value if reasons else failure.value
    return str(error) or type(error).__name__

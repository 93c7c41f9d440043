"""The HTTP client for requests of the proxy itself, on Twisted's Agent."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from esxiproxy.core.errors import ServiceUnavailable, SessionError
from esxiproxy.core.routing import Identity
from esxiproxy.interfaces import Answer, IHttpClient
from esxiproxy.net.tls.server import reason_of
from esxiproxy.web.tls import ServerTLS

_MAX_AGENTS = 64
"""Maximum number of identities and sockets whose connections are pooled."""
_MAX_PER_HOST = 8
"""Maximum number of idle connections to one host."""
_SYSTEM = Identity()
_URL = re.compile(r"https?://[!-~]+")


@implementer(IHttpClient)
class HttpClient:
    """An HTTP client with pooled connections, one pool for each identity and each unix socket.

    Certificates are verified by the authorities of the machine unless a request has an identity.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._agents: OrderedDict[tuple[Identity, Path | None], tuple[Agent, HTTPConnectionPool]] = (
            OrderedDict()
        )

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

    def close(self) -> Deferred[Any]:
        """Close the idle connections, and return when they are closed."""
        agents, self._agents = self._agents, OrderedDict()
        return DeferredList(
            [pool.closeCachedConnections() for _agent, pool in agents.values()], consumeErrors=True
        )

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
        """Send a request, and return its answer."""
        where = _where(url, socket)
        if not _URL.fullmatch(url) or "@" in urlsplit(url).netloc:
            raise ServiceUnavailable(
                f"{where} cannot be asked: its URL is not http://HOST/PATH or https://HOST/PATH in ASCII, "
                "without a user and a password"
            )
        headers = Headers()
        for name, value in fields:
            headers.addRawHeader(name, value)
        producer = _Octets(body) if body else None
        agent = self._agent(identity, socket)
        asking = agent.request(method.encode("ascii"), url.encode("ascii"), headers, producer)
        response = await asking.addErrback(_as_cancelled)
        collecting = _Body(max_body, where)
        response.deliverBody(collecting)
        content = await collecting.received
        answered = tuple(
            (name.lower(), value) for name, values in response.headers.getAllRawHeaders() for value in values
        )
        return Answer(response.code, answered, content)

    def _agent(self, identity: Identity, socket: Path | None) -> Agent:
        key = (identity, socket)
        found = self._agents.pop(key, None)
        if found is None:
            pool = HTTPConnectionPool(self._reactor)
            pool._factory = _QuietFactory
            pool.maxPersistentPerHost = _MAX_PER_HOST
            endpoints = _Endpoints(self._reactor, ServerTLS(identity), socket)
            found = Agent.usingEndpointFactory(self._reactor, endpoints, pool), pool
        self._agents[key] = found
        if len(self._agents) > _MAX_AGENTS:
            _key, (_agent, oldest) = self._agents.popitem(last=False)
            oldest.closeCachedConnections()
        return found[0]


class _QuietFactory(_HTTP11ClientFactory):
    """The factory of the connections, which logs none of them."""

    noisy = False


class _Body(Protocol):
    """Collects a body of at most ``most`` bytes."""

    transport: Any

    def __init__(self, most: int, where: str) -> None:
        self.received: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._most = most
        self._where = where
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            error = ServiceUnavailable(f"{self._where} sent a body of more than {self._most} bytes")
            self._end(Failure(error))
            self._abort()
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # PotentialDataLoss: an answer without a length ends with its connection (RFC 9112 6.3).
        whole = reason.check(ResponseDone, PotentialDataLoss)
        self._end(b"".join(self._parts) if whole else reason)

    def _end(self, outcome: bytes | Failure) -> None:
        if not self.received.called:
            self.received.callback(outcome)

    def _abort(self) -> None:
        """Abort the connection.  Twisted gives a body a stand-in for it that cannot, and none at its end."""
        connection = getattr(self.transport, "_producer", None)
        if connection is not None:
            connection.abortConnection()


@implementer(IBodyProducer)
class _Octets:
    """The body of a request, which is written at once."""

    def __init__(self, octets: bytes) -> None:
        self.length = len(octets)
        self._octets = octets

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    resumeProducing = stopProducing = pauseProducing


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """The endpoints of requests: their host, or a unix socket whatever host their URL names."""

    def __init__(self, reactor: Any, tls: ServerTLS, socket: Path | None) -> None:
        self._reactor = reactor
        self._tls = tls
        self._socket = socket

    def endpointForURI(self, uri: Any) -> _Endpoint:
        return _Endpoint(self._reactor, self._tls, self._socket, uri)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """One endpoint.  Its TLS is prepared when it connects, since most requests use a pooled connection."""

    def __init__(self, reactor: Any, tls: ServerTLS, socket: Path | None, uri: Any) -> None:
        self._reactor = reactor
        self._tls = tls
        self._socket = socket
        self._uri = uri

    def connect(self, factory: Any) -> Deferred[Any]:
        host = self._uri.host.decode("ascii")
        endpoint: Any
        if self._socket is None:
            endpoint = HostnameEndpoint(self._reactor, host, self._uri.port)
        else:
            endpoint = UNIXClientEndpoint(self._reactor, str(self._socket))
        connecting: Deferred[Any]
        if self._uri.scheme != b"https":
            connecting = endpoint.connect(factory)
            return connecting
        try:
            creator = self._tls.creator(host)
        except Exception as error:  # a file of authorities that cannot be read
            return fail(error)
        # wrapClientTLS would write by the clock of the global reactor.
        connecting = endpoint.connect(TLSMemoryBIOFactory(creator, True, factory, clock=self._reactor))
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def _where(url: str, socket: Path | None) -> str:
    """Return scheme, host and port of a URL: its path and query may hold secrets."""
    if socket is not None:
        return str(socket)
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the server"
    netloc = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{netloc}" if netloc.isascii() and netloc.isprintable() else "the server"


def _as_cancelled(failure: Failure) -> Failure:
    """Return the CancelledError that Twisted wraps when a request is cancelled, and any other failure."""
    reasons = getattr(failure.value, "reasons", ())
    return next((reason for reason in reasons if reason.check(CancelledError)), failure)


def _reason(failure: Failure) -> str:
    """Return the text of an error, with the first reason of a list of them."""
    reasons = getattr(failure.value, "reasons", None)
    error = reasons[0].value if reasons else failure.value
    if isinstance(error, VerificationError):
        return "its certificate has another name"
    if isinstance(error, SSL.Error):
        return reason_of(error)
    return str(error) or type(error).__name__

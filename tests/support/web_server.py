"""A real reactor whose turns a test runs, a web server on it, and the HTTP client."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from esxiproxy.web.client import HttpClient
from tests.support.real_reactor import TurnedReactor


@implementer(IOpenSSLServerConnectionCreator)
class ServerConnections:
    """TLS connections of a server, and the server names (SNI) that clients have sent."""

    def __init__(self, certificate):
        self.names = []
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate(certificate.certificate)
        self._context.use_privatekey(certificate.key)
        self._context.set_tlsext_servername_callback(self._named)

    def _named(self, connection):
        self.names.append(connection.get_servername())

    def serverConnectionForTLS(self, _protocol):
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection


class Pages(Resource):
    """A site that records its requests and answers by the first segment of the path."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.seen = []
        self.unfinished = []

    def render(self, request):
        body = request.content.read()
        self.seen.append((request.method, request.uri, dict(request.requestHeaders.getAllRawHeaders()), body))
        kind = request.prepath[0] if request.prepath else request.postpath[0]
        return getattr(self, f"answer_{kind.decode()}")(request)

    def answer_ok(self, request):
        request.responseHeaders.setRawHeaders("Set-Cookie", ["a=1", "b=2"])
        return b"hello"

    def answer_redirect(self, request):
        request.setResponseCode(302)
        request.setHeader("Location", "/ok")
        return b""

    def answer_big(self, request):
        return b"x" * 100_000

    def answer_hang(self, request):
        self.unfinished.append(request)
        return NOT_DONE_YET

    def answer_half(self, request):
        request.setHeader("Content-Length", "10")
        request.write(b"half")
        return self.answer_hang(request)


class CountingSite(Site):
    """A site that counts its connections."""

    noisy = False
    connections = 0

    def buildProtocol(self, addr):
        self.connections += 1
        return super().buildProtocol(addr)


class Raw(Protocol):
    """A server that answers each request with the same bytes and closes the connection."""

    def dataReceived(self, octets):
        self.transport.write(self.factory.answer)
        self.transport.loseConnection()


class Web(TurnedReactor):
    """A reactor with servers and a client."""

    def __init__(self):
        super().__init__()
        self.reactor = self.core
        self.client = HttpClient(self.reactor)
        self.pages = Pages()
        self.site = CountingSite(self.pages, reactor=self.reactor)
        self._ports = []

    def serve(self, factory=None, tls=None, unix=None, interface="127.0.0.1"):
        """Listen on a free port or on a unix socket, and return the port."""
        factory = factory or self.site
        if tls is not None:
            factory = TLSMemoryBIOFactory(tls, False, factory, clock=self.reactor)
            factory.noisy = False
        if unix is not None:
            self._ports.append(self.reactor.listenUNIX(str(unix), factory))
            return None
        port = self.reactor.listenTCP(0, factory, interface=interface)
        self._ports.append(port)
        return port.getHost().port

    def raw(self, answer):
        factory = Factory.forProtocol(Raw)
        factory.answer, factory.noisy = answer, False
        return self.serve(factory)

    def result(self, awaitable):
        """Run the reactor until there is a result, and return it or raise its error."""
        waiting = awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(awaitable)
        found = []
        waiting.addBoth(found.append)
        self.until(lambda: found)
        if isinstance(found[0], Failure):
            raise found[0].value
        return found[0]

    def get(self, url, **how):
        return self.result(self.client.request("GET", url, **how))

    def advance(self, seconds):
        """Let the timers of the reactor run as if so many seconds had passed."""
        before = self.core.seconds
        self.core.seconds = lambda: before() + seconds

    def close(self):
        self.result(self.client.close())
        for port in self._ports:
            port.stopListening()
        for _ in range(3):
            self.turn(0.01)
        super().close()

"""A web application that serves consoles in the same process.

    ESXI=192.0.2.10:443 PIN=sha256:... twistd -n --python examples/inside_web.py

The pages are on port 8080 and show the number of consoles.  The consoles are on port 8081.
"""

import os

from twisted.application.internet import TCPServer
from twisted.application.service import Application, MultiService
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

import esxiproxy


@implementer(esxiproxy.ISessionObserver)
class Counter(Resource):
    """The application's page, which is also an observer of all consoles."""

    isLeaf = True
    running = ended = refused = 0

    def opened(self, session: esxiproxy.Session) -> None:
        self.running += 1

    def closed(self, record: esxiproxy.Record) -> None:
        if record.status == 101:
            self.running -= 1
            self.ended += 1
        else:
            self.refused += 1

    def render_GET(self, request) -> bytes:
        return b"consoles: %d open, %d ended, %d refused\n" % (self.running, self.ended, self.refused)


@implementer(esxiproxy.IRouter)
class OneHost:
    """A router that sends every request to one host and keeps the client's target."""

    def __init__(self, upstream: esxiproxy.Upstream) -> None:
        self._route = esxiproxy.Route.to(upstream)

    async def route(self, request: esxiproxy.Request, principal: esxiproxy.Principal) -> esxiproxy.Route:
        return self._route


host, _, port = os.environ["ESXI"].rpartition(":")
pin = esxiproxy.Pin(*os.environ["PIN"].lower().split(":", 1))
esxi = esxiproxy.Upstream("esxi", host, int(port), secure=True, verify=esxiproxy.Verify.PIN, pins=(pin,))

application = Application("pages and consoles")
services = MultiService()
services.setServiceParent(application)

counter = Counter()
fast = esxiproxy.with_fast_transports(reactor)
proxy = esxiproxy.Proxy(fast, observers=[counter], limits=esxiproxy.SessionLimits(drain_timeout=10))
consoles = proxy.listener("consoles", OneHost(esxi))

# Services stop in reverse order: the ports first, and then the proxy, which drains its consoles.
proxy.setServiceParent(services)
TCPServer(int(os.environ.get("CONSOLES", "8081")), consoles, reactor=fast).setServiceParent(services)
TCPServer(int(os.environ.get("PAGES", "8080")), Site(counter)).setServiceParent(services)

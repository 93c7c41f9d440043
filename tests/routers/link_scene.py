"""A router of links with a state in memory, and requests for it."""

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.link import make_token, new_id, sealed_claims
from esxiproxy.core.link_keys import read_keys
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal, Upstream, Verify
from esxiproxy.core.sealing import key_of
from esxiproxy.plugins import Context
from esxiproxy.plugins.watched_files import SETTLE_DELAY
from esxiproxy.routers.links import OPAQUE_SPACE, TYPE, LinkRouter
from tests.state.world import MemoryWorld
from tests.support.links import AUDIENCE, ISSUER, claims, key_folder
from tests.support.outcome import result

ESXI = Upstream("esxi", "", 0, True)
PINNED = Upstream("pinned", "", 0, True, verify=Verify.PIN)
PLAIN = Upstream("plain", "", 0, False)
ANONYMOUS = Principal("anonymous")


class LinkScene:
    """A router with a state in memory, on a clock that the test advances."""

    def __init__(self, folder):
        self.world = MemoryWorld(folder)
        self.state = self.world.new()
        self.keys = key_folder(folder)
        self.folder = folder
        self.watched = []
        self.logged = []
        self.threads = maybeDeferred
        self.clock = Clock()
        self.now = self.world.time_of_day() + 10

    def settings(self, **changed):
        texts = {
            "keys": str(self.keys),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "template": "esxi",
            "allow": "192.0.2.0/24, 2001:db8::/32",
        }
        return settings_of(TYPE, SectionKind.ROUTER, {**texts, **changed}, self.folder, "router issued")

    def router(self, **changed):
        context = Context(
            section="router issued",
            clock=self.clock,
            state=self.state,
            upstreams={each.name: each for each in (ESXI, PINNED, PLAIN)},
            http=None,
            log=Logger(observer=self.logged.append),
            previous=None,
            in_thread=lambda call, *arguments: self.threads(call, *arguments),
            watch=lambda path, changed: self.watched.append((path, changed)),
            end_sessions=None,
        )
        router = LinkRouter(self.settings(**changed), context, lambda: self.now)
        result(router.ready())
        return router

    def change(self):
        """Let the last router read the keys again."""
        self.watched[-1][1]()
        self.clock.advance(SETTLE_DELAY)

    def link(self, kid="ed", **changed):
        return make_token(claims(self.now, **changed), read_keys(self.keys)[kid])

    def opaque(self, section="router issued", **changed):
        link = new_id()
        stored = sealed_claims(claims(self.now, **changed), link, section)
        result(self.state.put(OPAQUE_SPACE, key_of(link), stored, self.now + 300))
        return link


def request(target, *lines, client="198.51.100.7"):
    head = parse(b"\r\n".join((b"GET %b HTTP/1.1" % target.encode(), b"Host: h", *lines, b"", b"")))
    return Request("s", "one", PeerAddress(client, 4711), True, head)


def ask(router, asked):
    return result(Deferred.fromCoroutine(router.route(asked, ANONYMOUS)))


def routed(router, link, **options):
    return ask(router, request(f"/c/{link}", **options))

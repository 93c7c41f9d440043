"""A router `vsphere` with an admin process that answers from scripted machines."""

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.config.section import SectionKind
from esxiproxy.core.console_link import mint_console_link
from esxiproxy.core.login_rows import LOGINS
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.routing import Principal, Upstream
from esxiproxy.core.thumbprint import Pin
from esxiproxy.routers.vsphere import TYPE
from esxiproxy.state.memory import Memory, MemoryState
from tests.support.outcome import result
from tests.support.plugin_context import FakeContext
from tests.support.requests import request
from tests.support.vsphere_double import WEB, LoopbackHttp, ScriptedVSphere, tickets

ESX = Upstream("esxi", "", 0, secure=True)
ALICE = Principal("alice", authenticator="authenticator staff", groups=frozenset({"operators"}))
BOB = Principal("bob", authenticator="authenticator staff")
NOW = 1_800_000_000.0
SHA1, SHA256 = Pin("sha1", "5c" * 20), Pin("sha256", "5c" * 32)
ID = f"dc1/{WEB}"
BY_ID = f"/vm/{ID}".encode()


class Scene:
    """A router with the admin process that it asks."""

    def __init__(self, *machines, template=ESX, rules=(), **keys):
        texts = {"vsphere": "dc1, dc2", "access": "users", "template": "esxi", **keys}
        self.settings = settings_of(TYPE, SectionKind.ROUTER, texts, Path("/"))
        self.context = FakeContext(esxi=template)
        self.context.section = "router vms"
        self.clock = self.context.clock
        self.context.state = self.state = MemoryState(Clock(), Memory(self.now))
        self.context.sites = PrivateSites(Path("/run/sites"), 3)
        self.vsphere = ScriptedVSphere(*machines)
        self.http = self.context.http = LoopbackHttp(tickets(self.vsphere, *rules, clock=self.clock))
        self.router = TYPE.create(self.settings, self.context)
        self.router._time_of_day = self.now

    def now(self):
        return NOW + self.clock.seconds()

    def start(self, target=BY_ID, principal=ALICE):
        """Return the route once the fake clock has let the router have it."""
        return Deferred.fromCoroutine(self.router.route(request(target), principal))

    def route(self, target=BY_ID, principal=ALICE):
        return result(self.router.route(request(target), principal))

    def open(self, target=BY_ID, principal=ALICE):
        """Return the final route."""
        return result(self.route(target, principal).acquire())

    def log_in(self, login):
        """Have this login among those of the portal."""
        assert result(self.state.put(LOGINS, login, "{}", self.now() + 3600, new=True))

    def mint(self, machine=ID, principal=ALICE, **more):
        link = mint_console_link(machine, principal, "https://c.example.com", self.now(), **more)
        assert result(self.state.put(link.space, link.key, link.value, link.expires, new=True))
        return link, link.url.removeprefix("https://c.example.com").encode()

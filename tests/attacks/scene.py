"""A listener with real routers in memory: its client, upstream, name service, and all of its output."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.logger import formatEvent, globalLogPublisher

from esxiproxy.authenticators import anonymous, jwt
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.origins import AllowedOrigins
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.link import new_id, sealed_claims
from esxiproxy.core.routing import Policy, Principal, Route, Upstream
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.entry import entry_of
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.admission import Admission
from esxiproxy.net.console.backend import Backend
from esxiproxy.net.listener.factory import ListenerFactory
from esxiproxy.net.session_publisher import SessionPublisher
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.net.upstream.gateway import Gateway
from esxiproxy.net.upstream.health import Health
from esxiproxy.routers import inventory, links, resolver, static, tokens
from esxiproxy.routers.links import OPAQUE_SPACE, REVOKED_SPACE
from esxiproxy.state.memory import Memory, MemoryState
from tests.net.memory import Wire
from tests.net.scene import KEY, Recorder
from tests.support import links as made
from tests.support.outcome import result
from tests.support.plugin_context import FakeContext
from tests.support.websocket import accepting_fields, head_bytes

UPSTREAMS = {
    "esx": Upstream("esx", "", 0, secure=True),
    "plain": Upstream("plain", "", 0, secure=False),
    "lab": Upstream("lab", "10.0.0.7", 443, secure=True),
    "rest": Upstream("rest", "10.0.0.8", 443, secure=True),
}
OWN = (("127.0.0.1", 80), ("192.0.2.80", 443), ("0.0.0.0", 8443))
"""The listeners of the proxy; the client is connected to 127.0.0.1."""
HOSTS = """name,address
esx1,10.0.0.1
esx2.lab,10.0.0.2:8443
named,named.lab
"""
TOKENS = "S3cretToken: esx1.lab:443\nS3cretUrl: wss://10.0.0.9:8443/ticket/SECRET-TICKET\n"

INVENTORY = {"file": "hosts.csv", "template": "esx"}
LINKS = {
    "keys": "keys",
    "issuer": made.ISSUER,
    "audience": made.AUDIENCE,
    "template": "esx",
    "allow": "10.0.0.0/8",
}
RESOLVER = {"url": "https://tokens.lab/api/{token}?key=S3cretKey", "template": "esx", "allow": "10.0.0.0/8"}
LOGIN = {"keys": "jwks.json", "issuer": made.ISSUER, "audience": made.AUDIENCE, "algorithms": "EdDSA, ES256"}


class Somebody:
    """An authenticator that knows one client by credentials in Authorization."""

    identity_fields = frozenset({b"remote-user", b"x-auth-request-user"})

    def __init__(self, name="alice"):
        self.name = name

    async def authenticate(self, request):
        return Principal(self.name, consumed=frozenset({b"authorization"}))


class Nobody:
    """An authenticator that refuses all clients."""

    async def authenticate(self, request):
        raise AccessDenied("the login is not valid")


class Restricted:
    """A router whose consoles have a restriction; the query says which."""

    async def route(self, request, principal):
        flag = request.head.target.partition(b"?")[2].decode()
        policy = Policy(**({flag: not getattr(Policy(), flag)} if flag else {}))
        return replace(Route.to(UPSTREAMS["lab"]), policy=policy)


LISTENERS = {
    "static": [
        (static, {"match.lab": "host:*.lab.example.com path:/lab -> lab", "match.ui": "path:/ui -> rest"})
    ],
    "inventory": [(inventory, {**INVENTORY, "locate": "path:/h/{host}/"})],
    "inventory-query": [(inventory, {**INVENTORY, "locate": "query:host"})],
    "inventory-host": [(inventory, {**INVENTORY, "locate": "host:{host}.consoles.example.com"})],
    "inventory-cookie": [(inventory, {**INVENTORY, "locate": "cookie:esx"})],
    "tokens": [(tokens, {"source": "tokens", "template": "esx", "allow": "10.0.0.0/8"})],
    "resolver": [(resolver, RESOLVER)],
    "resolver-path": [(resolver, {**RESOLVER, "locate": "path:/r/{token}/"})],
    "resolver-cookie": [(resolver, {**RESOLVER, "locate": "cookie:console"})],
    "links": [(links, LINKS)],
    "links-query": [(links, {**LINKS, "locate": "query:link"})],
    "links-cookie": [(links, {**LINKS, "locate": "cookie:console"})],
    "links-subprotocol": [(links, {**LINKS, "locate": "subprotocol"})],
    "links-opaque": [(links, {**LINKS, "opaque": "yes"})],
    "links-plain": [(links, {**LINKS, "template": "plain"})],
    "links-alice": [(links, LINKS)],
    "links-nobody": [(links, LINKS)],
    "all": [
        (links, LINKS),
        (links, {**LINKS, "locate": "cookie:console"}),
        (tokens, {"source": "tokens", "template": "esx", "allow": "10.0.0.0/8"}),
        (inventory, {**INVENTORY, "locate": "path:/h/{host}/"}),
        (inventory, {**INVENTORY, "locate": "cookie:esx"}),
    ],
    "inventory-alice": [(inventory, {**INVENTORY, "locate": "path:/h/{host}/"})],
    "login": [(static, {"upstream": "lab"})],
    "login-cookie": [(static, {"upstream": "lab"})],
    "restricted": [(Restricted, {})],
}
"""The routers of each listener, with the keys of their sections."""
AUTHENTICATORS = {
    "links-alice": lambda scene: Somebody(),
    "inventory-alice": lambda scene: Somebody(),
    "links-nobody": lambda scene: Nobody(),
    "login": lambda scene: scene.plugin(SectionKind.AUTHENTICATOR, "sso", jwt.TYPE, LOGIN),
    "login-cookie": lambda scene: scene.plugin(
        SectionKind.AUTHENTICATOR, "sso", jwt.TYPE, {**LOGIN, "from": "cookie:login"}
    ),
}


class Names:
    """A name service with one answer for each look-up of a host; the last one is repeated."""

    def __init__(self, answers):
        self.answers = {host: list(found) for host, found in answers.items()}
        self.asked = []

    def look_up(self, host):
        self.asked.append(host)
        known = self.answers.get(host, [])
        found = (known.pop(0) if len(known) > 1 else known[0]) if known else ()
        if not found:
            return fail(DNSLookupError("no such name"))
        return succeed(tuple((IPv6Address if ":" in each else IPv4Address)("TCP", each, 0) for each in found))


class Dials:
    """A connector that notes each dial; the upstream's end of the last one is ``scene.host``."""

    def __init__(self, scene, names):
        self.scene = scene
        self.names = names
        self.made = []
        self.failure = None
        self.health = Health(scene.clock)

    def connect(self, upstream, host, make, limits, proxy_header=b"", slot=None, seconds=None, may_send=None):
        self.made.append((host, upstream.port))
        protocol = make(upstream, None)
        protocol.slot = slot
        if may_send is not None:
            protocol.may_send = may_send
        if self.failure is not None:
            slot.release()
            return fail(self.failure)
        connected = Deferred(lambda _: protocol.opened.cancel())
        protocol.opened.addBoth(lambda outcome: None if connected.called else connected.callback(outcome))
        self.scene.host = Wire(protocol)
        self.scene.is_console = isinstance(protocol, Backend)
        return connected


class Scene:
    """A listener of the table.  ``client`` is the last connection of a client."""

    def __init__(self, folder, listener, http=Http.REFUSE, keys=(), files=(), names=(), answers=()):
        self.folder = folder
        self.clock = FakeContext().clock
        self.memory = Memory()
        self.state = MemoryState(self.clock, self.memory)
        self.lines, self.http = [], FakeContext().http
        self.http.answers = list(answers)
        self.recorder = Recorder()
        self.admission = Admission(self.state, self.clock)
        publisher = SessionPublisher(self.state)
        self.sessions = Sessions([self.recorder, self.admission, publisher], self.clock)
        self.seen, new = [], self.sessions.new
        self.sessions.new = lambda *given: self.seen.append(new(*given)) or self.seen[-1]
        self.names = Names(dict(names))
        self.dials = Dials(self, self.names)
        self.keys = made.key_folder(folder)
        for name, text in {"hosts.csv": HOSTS, "tokens": TOKENS, **dict(files)}.items():
            (folder / name).write_text(text)
        (folder / "jwks.json").write_bytes(login_keys())
        routers = [
            self._router(number, *each, dict(keys) if not number else {})
            for number, each in enumerate(LISTENERS[listener])
        ]
        who = AUTHENTICATORS.get(listener, lambda scene: anonymous.TYPE.create(None, self.context("nobody")))
        authenticator = Plugin("authenticator who", who(self))
        limits = ConnectionLimits(max_connections=8, max_sessions=8)
        gateway = Gateway(
            [authenticator], routers, self.dials, self.admission, limits, lambda: OWN, http is Http.FORWARD
        )
        ambient = any(getattr(each.instance, "ambient", False) for each in (authenticator, *routers))
        policy = ListenerPolicy(http=http, origins=AllowedOrigins() if ambient else None)
        self.factory = ListenerFactory("l", gateway, self.sessions, SessionLimits(), self.clock, policy)
        self.host = self.client = None

    def _router(self, number, module, texts, keys):
        if module is Restricted:
            return Plugin("router r", Restricted())
        section = f"r{number or ''}"
        return Plugin(
            f"router {section}", self.plugin(SectionKind.ROUTER, section, module.TYPE, {**texts, **keys})
        )

    def plugin(self, kind, name, section_type, texts):
        """Return a router or an authenticator that its type has made from these keys."""
        section = f"{kind.value} {name}"
        settings = settings_of(section_type, kind, texts, self.folder, section)
        instance = section_type.create(settings, self.context(section))
        if hasattr(instance, "ready"):
            result(instance.ready())
        return instance

    def context(self, section):
        """Return the context of a plugin of this listener."""
        context = FakeContext(**UPSTREAMS)
        context.section, context.clock, context.state = section, self.clock, self.state
        context.http, context.lines = self.http, self.lines
        return context

    # Links

    def opaque(self, section="router r", **changed):
        """Return an opaque link whose claims are stored."""
        link, now = new_id(), self.memory.time_of_day()
        result(
            self._put(OPAQUE_SPACE, key_of(link), sealed_claims(made.claims(now, **changed), link, section))
        )
        return link.encode()

    def revoke(self, link="link-1"):
        """Revoke a link by its id."""
        result(self._put(REVOKED_SPACE, key_of(link), ""))

    async def _put(self, space, key, value):
        await self.state.put(space, key, value, self.memory.time_of_day() + 1000)

    # Requests

    def send(self, octets):
        """Send a request on a new connection, and return all bytes of the answer."""
        self.client = Wire(self.factory.buildProtocol(None))
        self.client.send(octets)
        self.pump()
        return self.client.received

    def pump(self):
        """Deliver all bytes that can be delivered."""
        wires = [wire for wire in (self.client, self.host) if wire is not None]
        while sum(wire.pump() for wire in wires):
            wires = [wire for wire in (self.client, self.host) if wire is not None]

    def finish(self):
        """Close the client's connection, and let all deadlines of an ended session pass."""
        self.client.close()
        if self.host is not None:
            self.host.close()
        for _ in range(20):
            self.pump()
            self.clock.advance(1)

    def accept(self, protocol="binary"):
        """Answer as the upstream with a 101."""
        head = self.host.received.partition(b"\r\n\r\n")[0]
        key = next(line[19:] for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))
        self.host.send(
            head_bytes("HTTP/1.1 101 Switching Protocols", accepting_fields(key.decode(), protocol))
        )
        self.pump()

    def open(self, octets):
        """Open a console and return the head that the upstream received."""
        self.send(octets)
        assert self.host is not None, self.client.received
        self.accept()
        assert self.client.received.startswith(b"HTTP/1.1 101 "), self.client.received
        return self.host.received

    def at_rest(self):
        """Return what is left of all sessions: connections, sessions, slots, timers; empty if nothing is."""
        left = {
            "client": not self.client.ended,
            "host": self.host is not None and not self.host.ended,
            "sessions": len(self.sessions),
            "timers": self.clock.getDelayedCalls(),
            "slots": {name for name, taken in self.memory.slots.items() if taken},
            "held marks": [mark for mark in self.memory.marks.values() if mark.holder],
            "published": list(self.memory.entries),
            "handshakes": self.admission.handshakes,
            "dialling": self.admission.dialling,
        }
        return {name: value for name, value in left.items() if value}

    def output(self):
        """Return everything that the proxy shows of its sessions to people, as texts by their place."""
        shown = {"log of the plugins": "\n".join(map(str, self.lines))}
        for number, session in enumerate(self.seen):
            parts = {
                "session": session,
                "request": session.request,
                "head": session.request.head if not session.request.secrets else None,
                "route": session.route,
                "principal": session.principal,
                "target": session.request.shown_target,
                "entry": entry_of(session, "holder", 0.0),
            }
            shown.update({f"{name} {number}": f"{part!r} {part}" for name, part in parts.items()})
        for number, record in enumerate(self.recorder.records):
            shown[f"record {number}"] = repr(record)
        return shown


@contextmanager
def logged():
    """Collect all log events of the process, with their values and tracebacks."""
    texts = []

    def observe(event):
        failure = event.get("log_failure")
        trace = failure.getTraceback(detail="verbose") if failure is not None else ""
        texts.append(f"{formatEvent(event)}\n{event!r}\n{trace}")

    globalLogPublisher.addObserver(observe)
    try:
        yield texts
    finally:
        globalLogPublisher.removeObserver(observe)


def request(attempt, scene, upgrade):
    """Return the bytes of an attempt, as an opening handshake or as a plain request, and its secrets."""
    link = attempt.link(scene) if attempt.link is not None else b""
    lines = [
        b"%b %b HTTP/1.1" % (attempt.method, attempt.target),
        *([b"Host: " + attempt.host] if attempt.host else []),
        *attempt.fields,
    ]
    if upgrade:
        lines += [
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + KEY,
        ]
    if attempt.protocol:
        lines.append(b"Sec-WebSocket-Protocol: " + attempt.protocol)
    octets = b"\r\n".join([*lines, b"", b""]).replace(b"{link}", link)
    return octets, (*attempt.secrets, *([link.decode()] if link else []))


def login_keys():
    """Return the JWK Set of the authenticator, which has the keys of links too."""
    import json

    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm

    found = []
    for kid, kind, algorithm in (("ed", "eddsa", OKPAlgorithm), ("ec", "es256", ECAlgorithm)):
        public = json.loads(algorithm.to_jwk(load_pem_public_key(made.pair(kind)[1])))
        public.pop("key_ops", None)
        found.append({**public, "kid": kid})
    return json.dumps({"keys": found}).encode()

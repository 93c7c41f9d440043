"""The portal over connections in memory: a browser whose cookies are kept, a clock, and scripted machines."""

import json
from dataclasses import replace
from urllib.parse import urlencode

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from esxiproxy.authenticators.login_store import LOGIN_INTERVAL, LOGINS_AT_ONCE, LoginStore, key_in
from esxiproxy.authenticators.login_throttle import LoginThrottle
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.portal import visitor_fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal
from esxiproxy.portal.api import PortalApi
from esxiproxy.portal.assets import Assets
from esxiproxy.portal.favourites import Favourites
from esxiproxy.portal.machine_rows import Catalogue
from esxiproxy.portal.machine_service import ApiLink
from esxiproxy.portal.settings import PortalListener, Provider
from esxiproxy.portal.site import PortalRoot, PortalSite
from esxiproxy.state.memory import Memory, MemoryState
from tests.support.portal_machines import FakeInventory, FakeService, rights_by_tag, scope_by_tag

URL = "https://c.example.com"
DAY = 1_800_000_000.0
ASSETS = Assets()


class Staff:
    """A provider that knows alice; `wait` is the time for which it refuses all logins."""

    def __init__(self):
        self.asked, self.wait = [], 0

    async def check_password(self, name, password, network):
        self.asked.append((name, password, network))
        if self.wait:
            error = AccessDenied(
                f"too many failed logins from this network: try again in {self.wait} s", status=429
            )
            error.fields = ((b"Retry-After", b"%d" % self.wait),)
            raise error
        return Principal(name) if (name, password) == ("alice", "secret") else None


class Answer:
    def __init__(self, octets):
        head, _, self.body = octets.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.fields = [tuple(line.split(": ", 1)) for line in lines]

    def __getitem__(self, name):
        found = [value for key, value in self.fields if key.lower() == name.lower()]
        return found[0] if len(found) == 1 else found

    @property
    def value(self):
        return json.loads(self.body)

    @property
    def cookies(self):
        return [value for key, value in self.fields if key == "Set-Cookie"]


class Portal:
    """A portal with one listener `people`, and a browser that keeps its cookies and its login."""

    def __init__(self, *machines, embed=(), mint=True, providers=("staff",), sso=None):
        self.clock = Clock()
        self.state = MemoryState(self.clock, Memory(lambda: DAY + self.clock.seconds()))
        self.told, self.cookies, self.full = [], {}, set()
        self.state.tell = self._tell
        self.inventory = FakeInventory(*machines)
        self.service = FakeService({"dc1": self.inventory})
        self.staff = Staff()
        self.logins = LoginStore(
            self.state,
            "authenticator login",
            43200,
            3600,
            ["authenticator sso", *(f"authenticator {name}" for name in providers)],
            lambda: DAY + self.clock.seconds(),
        )
        asked = [Provider(name, self.staff) for name in providers]
        asked += [Provider("sso", sso)] if sso is not None else []
        throttle = LoginThrottle(self.state, "failed logins", self.time_of_day)
        self.listener = PortalListener("people", URL, self.logins, tuple(asked), embed, throttle)
        self.catalogue = Catalogue(self.service, rights_by_tag, scope_by_tag)
        self.catalogue.start()
        favourites = Favourites(self.state, self.clock)
        api = PortalApi(
            self.service, self.catalogue, favourites, self._mint if mint else None, self.clock, self._is_full
        )
        now = self.time_of_day
        self.root = PortalRoot({"people": self.listener}, api, ASSETS, self.clock, now)
        self.site = PortalSite(self.root, self.clock)
        self.site.doStart()
        self.minted = []

    def time_of_day(self):
        return DAY + self.clock.seconds()

    async def _tell(self, command):
        self.told.append(command)
        return True

    async def _is_full(self, listener, machine):
        return listener == "people" and machine.id in self.full

    async def _mint(self, machine, principal, url):
        self.minted.append((machine.id, principal))
        return ApiLink(f"{url}/c/once", DAY + 60)

    def principal(self):
        """Return the principal that the listener finds by the cookies of the browser."""
        cookies = ["; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()]
        key = key_in(cookies)
        if key is None:
            return None
        found = []
        from twisted.internet.defer import Deferred

        Deferred.fromCoroutine(self.logins.find(key, True)).addBoth(found.append)
        return found[0]

    def raw(self, octets):
        """Send bytes to the socket, and return the transport and the connection."""
        transport = StringTransport()
        protocol = self.site.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(octets)
        self.clock.advance(0)
        return transport, protocol

    def send(self, method, target, fields=(), body=None, principal=..., content_type="application/json"):
        """Send a request as a listener forwards it, and return the transport and the connection."""
        principal = self.principal() if principal is ... else principal
        fields = list(fields)
        if self.cookies:
            fields.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            fields += [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        head = RequestHead(b"", method.encode(), target.encode(), (1, 1), ())
        request = Request("s1", "people", PeerAddress("192.0.2.7", 4000), True, head)
        fields += [(name.decode(), value.decode()) for name, value in visitor_fields(request, principal)]
        fields += [
            ("Host", "c.example.com"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "c.example.com"),
        ]
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))

    def ask(self, method, target, *fields, **more):
        """Return the answer to a request, and keep its cookies."""
        transport, _ = self.send(method, target, fields, **more)
        answer = Answer(transport.value())
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer

    def get(self, target, *fields, **more):
        return self.ask("GET", target, *fields, **more)

    def act(self, target, body, *fields, **more):
        return self.ask("POST", target, *fields, body=body, **more)

    def login(self, name="alice", password="secret", wanted="/", **more):
        """Fill in the login form and send it."""
        self.get("/login")
        form = {
            "name": name,
            "password": password,
            "next": wanted,
            "token": self.cookies["__Host-esxiproxy-form"],
        }
        return self.submit({**form, **more})

    def submit(self, form, *fields):
        body = urlencode(form).encode()
        return self.ask(
            "POST", "/login", *fields, body=body, content_type="application/x-www-form-urlencoded"
        )

    def refuse_logins(self, user="staff/alice"):
        """Make further logins of a user come too early."""
        self.state._memory.buckets[f"authenticator login logins {user}"] = (
            self.clock.seconds() + LOGINS_AT_ONCE * LOGIN_INTERVAL
        )

    def operator(self):
        return replace(self.principal(), groups=frozenset({"ops"}))

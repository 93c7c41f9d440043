"""The pages of a simulated vCenter below /ui: login, list of machines, and the page of a console.

vCenter serves them under its own name only.  A request that may change something, and the WebSocket of a
console, need its own Origin as well.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from autobahn.twisted.resource import WebSocketResource
from twisted.web.resource import Resource
from twisted.web.server import Request

from esxiproxy.sim.tickets import Grant, TicketStore
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import MachineObject, SimulatedPower
from esxiproxy.sim.vcenter.sessions import SessionStore, VCenterSession
from esxiproxy.sim.vcenter.soap import Ref
from esxiproxy.sim.vcenter.soap_faults import VimFault
from esxiproxy.sim.vcenter.webconsole.authd import AuthdFactory

COOKIE: Final = "VSPHERE-UI-JSESSIONID"
TICKET_LIFETIME: Final = 120.0
AUTHD_PORT: Final = 902
_FILES: Final = Path(__file__).parent
_HEAD: Final = '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
_LOGIN: Final = (
    _HEAD.format(title="simulated vCenter: log in")
    + '<form method="post" action="/ui/login"><label>User <input name="user"></label> '
    '<label>Password <input name="password" type="password"></label> <button>Log in</button></form>\n'
)


class WebConsole:
    """The pages, and the tickets that they issue for consoles.

    `name` is that of the vCenter, and `thumbprint` returns the SHA-1 of its certificate.
    """

    def __init__(
        self,
        name: str,
        inventory: SimulatedInventory,
        sessions: SessionStore,
        thumbprint: Callable[[], str],
        reactor: Any,
    ) -> None:
        self.tickets: TicketStore[Grant] = TicketStore(reactor.seconds, TICKET_LIFETIME)
        self._name = name
        self._inventory = inventory
        self._sessions = sessions
        self._thumbprint = thumbprint
        self._authd = WebSocketResource(AuthdFactory(self.tickets, reactor))

    def resource(self) -> Resource:
        """Return everything below /ui."""
        ui = Resource()
        console = _Page(self, lambda request, session: self._authd.render(request), is_upgrade=True)
        pages: dict[bytes, Resource] = {
            b"": _Page(self, self._list),
            b"login": _Login(self),
            b"webconsole.html": _Page(self, self._console),
            b"webconsole.js": _Page(self, self._script),
            b"webconsole": Resource(),
        }
        pages[b"webconsole"].putChild(b"authd", console)
        for path, page in pages.items():
            ui.putChild(path, page)
        return ui

    def refusal(self, request: Request, needs_origin: bool) -> tuple[int, str] | None:
        """Return why vCenter refuses a request before it looks at its login, or None."""
        if request.getHeader("host") != self._name:
            return 400, "[400] The name is not that of this vCenter"
        if needs_origin and request.getHeader("origin") != f"https://{self._name}":
            return 403, "[403] The origin is not that of this vCenter"
        return None

    def log_in(self, user: str, password: str) -> VCenterSession:
        """Return a new session. Raises VimFault."""
        return self._sessions.log_in(user, password)

    def session_of(self, request: Request) -> VCenterSession | None:
        """Return the session of a request's cookie."""
        try:
            cookies = SimpleCookie(request.getHeader("cookie") or "")
        except CookieError:
            return None
        return self._sessions.find(cookies[COOKIE].value) if COOKIE in cookies else None

    def _list(self, request: Request, session: VCenterSession) -> bytes:
        rows = []
        for machine in sorted(self._inventory.machines.values(), key=lambda each: each.name):
            shown = escape(machine.name)
            if machine.power is SimulatedPower.ON:
                shown = f'<a href="{escape(self._link(machine, session))}">{shown}</a>'
            rows.append(f"<li>{shown}")
        text = _HEAD.format(title="simulated vCenter") + f"<ul>{''.join(rows)}</ul>\n"
        return _html(request, text)

    def _link(self, machine: MachineObject, session: VCenterSession) -> str:
        shown = {
            "vmId": machine.ref.moid,
            "vmName": machine.name,
            "serverGuid": machine.uuid,
            "host": f"{self._name}:443",
            "sessionTicket": self._sessions.clone_ticket(session),
            "thumbprint": self._thumbprint(),
        }
        return f"/ui/webconsole.html?{urlencode(shown, safe=':')}"

    def _console(self, request: Request, session: VCenterSession) -> bytes:
        asked = dict(parse_qsl(request.uri.partition(b"?")[2].decode("latin-1")))
        machine = self._inventory.machines.get(Ref("VirtualMachine", asked.get("vmId", "")))
        if machine is None or machine.power is not SimulatedPower.ON or not machine.host.connected:
            request.setResponseCode(409)
            return b"The machine has no console now.\n"
        esxi = machine.host.esxi
        query = {
            "mksTicket": self.tickets.issue(Grant(machine.console, session.user)),
            "host": esxi.options.interface,
            "port": AUTHD_PORT,
            "cfgFile": f"[datastore1] {machine.ref.moid}/{machine.ref.moid}.vmx",
            "sslThumbprint": esxi.certificate.sha1,
        }
        page = (_FILES / "webconsole.html").read_text(encoding="utf-8")
        return _html(request, page.replace("{query}", escape(urlencode(query))))

    def _script(self, request: Request, session: VCenterSession) -> bytes:
        request.setHeader("Content-Type", "text/javascript; charset=utf-8")
        return (_FILES / "webconsole.js").read_bytes()


class _Page(Resource):
    """A page for clients that have logged in."""

    isLeaf = True

    def __init__(
        self, console: WebConsole, show: Callable[[Request, VCenterSession], Any], is_upgrade: bool = False
    ) -> None:
        super().__init__()
        self._web = console
        self._show = show
        self._is_upgrade = is_upgrade

    def render_GET(self, request: Request) -> Any:
        if (refused := self._web.refusal(request, self._is_upgrade)) is not None:
            return _refuse(request, *refused)
        if (session := self._web.session_of(request)) is None:
            return _refuse(request, 401, "[401] Login first")
        request.setHeader("Cache-Control", "no-store")
        return self._show(request, session)


class _Login(Resource):
    """The form, and the login that it sends."""

    isLeaf = True

    def __init__(self, console: WebConsole) -> None:
        super().__init__()
        self._web = console

    def render_GET(self, request: Request) -> bytes:
        refused = self._web.refusal(request, False)
        return _html(request, _LOGIN) if refused is None else _refuse(request, *refused)

    def render_POST(self, request: Request) -> bytes:
        refused = self._web.refusal(request, True)
        if refused is not None:
            return _refuse(request, *refused)
        given: dict[bytes, list[bytes]] = request.args or {}
        user, password = (
            given.get(name, [b""])[-1].decode("utf-8", "replace") for name in (b"user", b"password")
        )
        try:
            session = self._web.log_in(user, password)
        except VimFault as fault:
            return _refuse(request, 401, f"[401] {fault.message}")
        request.setHeader("Set-Cookie", f"{COOKIE}={session.token}; Path=/ui; Secure; HttpOnly")
        request.setHeader("Location", "/ui/")
        request.setResponseCode(303)
        return b""


def _html(request: Request, text: str) -> bytes:
    request.setHeader("Content-Type", "text/html; charset=utf-8")
    return text.encode()


def _refuse(request: Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return f"{text}\n".encode()

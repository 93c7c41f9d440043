"""The HTTPS site of a simulated vCenter: /sdk, /api, /screen and /ui."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from xml.sax.saxutils import escape

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from esxiproxy.sim.screen import png
from esxiproxy.sim.vcenter import demands, soap
from esxiproxy.sim.vcenter.endpoint import SoapAnswer, SoapEndpoint, TransportFault
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import SimulatedPower
from esxiproxy.sim.vcenter.rest import RestAnswer, RestEndpoint, basic_credentials
from esxiproxy.sim.vcenter.sessions import COOKIE, SessionStore
from esxiproxy.sim.vcenter.soap_faults import VimFault
from esxiproxy.sim.vcenter.vi_json import ViJsonEndpoint
from esxiproxy.sim.vcenter.webconsole.pages import WebConsole

JSON: Final = "application/json"
GARBAGE: Final = b"<html><body>This is no SOAP.</body></html>"


class QuietSite(Site):
    """A site without an access log, since its requests carry passwords and tickets."""

    noisy = False

    def log(self, request: object) -> None:
        """Log nothing."""


class SoapResource(Resource):
    """POST /sdk, and the document of supported versions below it."""

    log = Logger()

    def __init__(self, endpoint: SoapEndpoint, versions: tuple[str, ...]) -> None:
        super().__init__()
        self._endpoint = endpoint
        self.putChild(b"vimServiceVersions.xml", TextResource("text/xml", lambda: _versions(versions)))
        self.putChild(b"", self)

    def render_POST(self, request: Request) -> int:
        answer = Deferred.fromCoroutine(
            self._endpoint.answer(
                _body(request), request.getHeader("soapaction") or "", session_cookie(request)
            )
        )
        request.notifyFinish().addErrback(lambda _: answer.cancel())
        answer.addCallbacks(self._respond, self._failed, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET

    def _respond(self, answer: SoapAnswer, request: Request) -> None:
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", soap.CONTENT_TYPE)
        request.setHeader("Cache-Control", "no-cache")
        if answer.session is not None:
            # vCenter's cookie has quotes around its value.
            cookie = f'{COOKIE}="{answer.session.token}"; Path=/; HttpOnly; Secure'
            request.setHeader("Set-Cookie", cookie)
        request.write(answer.body)
        request.finish()

    def _failed(self, failure: Failure, request: Request) -> None:
        fail(failure, request, self.log)


class ViJsonResource(Resource):
    """All paths below /sdk/vim25."""

    isLeaf = True
    log = Logger()

    def __init__(self, endpoint: ViJsonEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    def render_POST(self, request: Request) -> int:
        token = request.getHeader("vmware-api-session-id")
        answer = Deferred.fromCoroutine(
            self._endpoint.answer(request.path.decode("latin-1"), token, _body(request))
        )
        request.notifyFinish().addErrback(lambda _: answer.cancel())
        answer.addCallbacks(self._respond, self._failed, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET

    def _respond(self, answer: RestAnswer, request: Request) -> None:
        request.setResponseCode(answer.status)
        if answer.value is not None:
            request.setHeader("Content-Type", JSON)
            request.write(json.dumps(answer.value).encode())
        request.finish()

    def _failed(self, failure: Failure, request: Request) -> None:
        fail(failure, request, self.log)


class RestResource(Resource):
    """All paths below /api."""

    isLeaf = True

    def __init__(self, endpoint: RestEndpoint, soap_endpoint: SoapEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._soap = soap_endpoint

    def render(self, request: Request) -> bytes | int:
        path = request.path.decode("latin-1")
        demand = self._soap.demands.take(path, "")
        if demand is not None and demand.fault in demands.TRANSPORT:
            misbehave(request, demand.fault)
            return NOT_DONE_YET
        names = ("authorization", "vmware-api-session-id")
        fields = {name: request.getHeader(name) or "" for name in names}
        query = _query(request)
        self._soap.counts[f"{request.method.decode()} {path}"] += 1
        answer = self._endpoint.answer(request.method.decode(), path, query, fields, _body(request))
        request.setResponseCode(answer.status)
        if answer.value is None:
            return b""
        request.setHeader("Content-Type", JSON)
        return json.dumps(answer.value).encode()


class ScreenResource(Resource):
    """GET /screen?id=MOID: a picture of a machine's screen."""

    isLeaf = True

    def __init__(self, inventory: SimulatedInventory, sessions: SessionStore) -> None:
        super().__init__()
        self._inventory = inventory
        self._sessions = sessions

    def render_GET(self, request: Request) -> bytes:
        if not self._may_see(request):
            request.setResponseCode(401)
            request.setHeader("WWW-Authenticate", 'Basic realm="VMware HTTP server"')
            return b""
        machine = self._inventory.find_machine(_query(request).get("id", ""))
        if machine is None:
            request.setResponseCode(404)
            return b""
        if machine.power is not SimulatedPower.ON or not machine.host.connected:
            request.setResponseCode(503)
            return b""
        machine.console.draw()
        request.setHeader("Content-Type", "image/png")
        request.setHeader("Cache-Control", "no-store")
        return png.encode(machine.console.screen)

    def _may_see(self, request: Request) -> bool:
        if self._sessions.find(session_cookie(request)) is not None:
            return True
        credentials = basic_credentials(request.getHeader("authorization") or "")
        if credentials is None:
            return False
        try:
            self._sessions.log_out(self._sessions.log_in(*credentials))
        except VimFault:
            return False
        return True


class TextResource(Resource):
    """A resource whose text is computed for each request."""

    isLeaf = True

    def __init__(self, content_type: str, text: Callable[[], str]) -> None:
        super().__init__()
        self._content_type = content_type
        self._text = text

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("Content-Type", self._content_type)
        return self._text().encode()


def make_site(
    endpoint: SoapEndpoint,
    rest: RestEndpoint,
    inventory: SimulatedInventory,
    sessions: SessionStore,
    versions: tuple[str, ...],
    console: WebConsole,
) -> Site:
    """Return the site with everything below it."""
    root = Resource()
    root.putChild(b"", TextResource("text/html", lambda: "<!doctype html><title>simulated vCenter</title>\n"))
    sdk = SoapResource(endpoint, versions)
    sdk.putChild(b"vim25", ViJsonResource(ViJsonEndpoint(endpoint)))
    root.putChild(b"sdk", sdk)
    root.putChild(b"api", RestResource(rest, endpoint))
    root.putChild(b"screen", ScreenResource(inventory, sessions))
    root.putChild(b"ui", console.resource())
    return QuietSite(root)


def session_cookie(request: Request) -> str | None:
    """Return the value of the session's cookie, without its quotes."""
    try:
        cookies = SimpleCookie(request.getHeader("cookie") or "")
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None


def fail(failure: Failure, request: Request, log: Logger) -> None:
    """Answer a request whose call has no result, unless its client has left."""
    if failure.check(CancelledError):
        return
    if failure.check(TransportFault):
        misbehave(request, failure.value.kind)
        return
    log.failure("a call of the simulated vCenter failed", failure)
    request.setResponseCode(500)
    request.finish()


def misbehave(request: Request, kind: str) -> None:
    """Answer a request as a fault of the transport asks for."""
    transport: Any = request.transport
    match kind:
        case demands.DROP:
            transport.abortConnection()
        case demands.GARBAGE:
            request.setHeader("Content-Type", "text/html")
            request.write(GARBAGE)
            request.finish()
        case demands.UNAVAILABLE:
            request.setResponseCode(503)
            request.finish()


def _query(request: Request) -> dict[str, str]:
    parsed: dict[bytes, list[bytes]] = request.args or {}
    return {name.decode("latin-1"): values[-1].decode("utf-8", "replace") for name, values in parsed.items()}


def _body(request: Request) -> bytes:
    content = request.content
    assert content is not None
    return bytes(content.read(soap.MAX_REQUEST + 1))


def _versions(versions: tuple[str, ...]) -> str:
    prior = "".join(f"<version>{escape(version)}</version>" for version in versions[1:])
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<namespaces version="1.0">\n <namespace>\n'
        f"  <name>{soap.NAMESPACE}</name>\n  <version>{escape(versions[0])}</version>\n"
        f"  <priorVersions>{prior}</priorVersions>\n </namespace>\n</namespaces>\n"
    )

"""Logins in a real browser: which page may use a user's cookie or password, and what ends a console.

A page of another port of 127.0.0.1 is of another origin, and yet the user's cookies are sent with its
requests: a browser tells cookies apart by host name only.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import jwt
import pytest

from tests.support import config
from tests.support.browser import Chromium, Page, pages
from tests.support.programs import TICKET, Proxy, until
from tests.support.websocket_peers import Connection, ScriptedUpstream

TARGET = f"/ticket/{TICKET}"
ISSUER, AUDIENCE = "https://login.example.com", "consoles"
SECRET = "0123456789abcdef0123456789abcdef"
JWKS = '{"keys": [{"kty": "oct", "kid": "s", "alg": "HS256", "k": "%s"}]}'
PASSWORD = "wonderland"
PAGE = b"<!doctype html><title>page</title><p>page"
CONSOLE = """
(() => {
    window.said = '';
    const socket = new WebSocket('ws://127.0.0.1:%d%s', ['binary']);
    socket.onopen = () => { window.said += 'opened '; };
    socket.onclose = event => { window.said += `closed ${event.code} ${event.reason}`; };
})()
"""
LOGINS = ("cookie", "basic")


def serve(connection: Connection) -> None:
    """Answer a plain request with a page, and take a console."""
    request = connection.read_request()
    if request.one("Upgrade"):
        connection.accept()
        connection.serve()
    else:
        fields = [("Content-Type", "text/html"), ("Content-Length", str(len(PAGE))), ("Connection", "close")]
        connection.send_head("200 OK", fields, PAGE)
    connection.close()


@dataclass
class Service:
    """A service of forwardAuth, which knows the users by the values of a cookie."""

    sessions: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        sessions = self.sessions

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = re.search(r"sid=(\w+)", self.headers.get("Cookie", ""))
                user = sessions.get(found[1]) if found else None
                self.send_response(200 if user else 401)
                if user:
                    self.send_header("Remote-User", user)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End the service."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Logins:
    """A browser, a proxy with a listener for each kind of login, and a page of a foreign site."""

    chromium: Chromium
    proxy: Proxy
    host: ScriptedUpstream
    service: Service
    foreign: int

    def page(self, port: int, login: str, expires: float = 600) -> Page:
        """Open the page of a port as a user who has logged in at the proxy."""
        page = self.chromium.open("about:blank")
        if login == "basic":
            for listener in ("basic", "any-basic"):  # instead of the browser's dialog
                at = f"127.0.0.1:{self.proxy.ports[listener]}/"
                page.call("Page.navigate", url=f"http://alice:{PASSWORD}@{at}")
                self.wait(page, f"http://{at}")
        else:
            now = int(time.time())
            claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + expires}
            token = jwt.encode(claims, SECRET, "HS256", headers={"kid": "s"})
            for name, value in [("session", token), ("sid", "s1")]:
                page.call("Network.setCookie", name=name, value=value, domain="127.0.0.1", path="/")
        page.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
        self.wait(page, f"http://127.0.0.1:{port}/")
        return page

    def wait(self, page: Page, url: str) -> None:
        """Wait until a page is shown."""
        ready = "location.href + ' ' + document.title + ' ' + document.readyState"
        until(lambda: page.evaluate(ready) == f"{url} page complete", f"{url} is shown")

    def console(self, page: Page, listener: str) -> str:
        """Let a page open a console; return what its script sees."""
        page.evaluate(CONSOLE % (self.proxy.ports[listener], TARGET))
        said: str = until(lambda: page.evaluate("window.said") or None, "the console opens or is refused")
        return said

    def consoles(self) -> int:
        """Return how many consoles the host has had."""
        requests = [connection.request for connection in self.host.connections]
        return sum(request is not None and request.one("Upgrade") is not None for request in requests)


@pytest.fixture(scope="module")
def scene(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logins]:
    folder = tmp_path_factory.mktemp("logins")
    (folder / "index.html").write_bytes(PAGE)
    key = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    (folder / "jwks.json").write_text(JWKS % key)
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (folder / "users").write_text(f"alice:{{SHA}}{digest}\n")
    shown = folder / "shown"
    shown.mkdir()
    (folder / "index.html").rename(shown / "index.html")
    service = Service({"s1": "alice"})
    with ScriptedUpstream(serve) as host, pages(shown) as foreign:
        listed = f"same, http://127.0.0.1:{foreign}"
        text = config.ini(
            config.listener("cookie", http="forward", authenticator="cookie"),
            config.listener("any-cookie", http="forward", authenticator="cookie", origins="any"),
            config.listener("listed-cookie", http="forward", authenticator="cookie", origins=listed),
            config.listener("basic", http="forward", authenticator="basic"),
            config.listener("any-basic", http="forward", authenticator="basic", origins="any"),
            config.listener("service", http="forward", authenticator="service"),
            config.authenticator(
                "cookie",
                "jwt",
                **{"from": "cookie:session"},
                keys=folder / "jwks.json",
                issuer=ISSUER,
                audience=AUDIENCE,
                algorithms="HS256",
            ),
            config.authenticator("basic", "htpasswd", file=folder / "users"),
            config.authenticator(
                "service", "forward", url=f"http://127.0.0.1:{service.port}/auth", reauthenticate="1s"
            ),
            config.upstream(host.port),
            access_log="stdout",
            close_timeout="1s",
            drain_timeout="1s",
        )
        with Proxy(text) as proxy:
            yield Logins(chromium, proxy, host, service, foreign)
            log = proxy.log()
            assert not re.search("Unhandled|Traceback", log)
            assert not any(secret in log for secret in (TICKET, PASSWORD, "eyJ"))
    service.stop()


@pytest.mark.parametrize("login", LOGINS)
def test_a_page_of_the_proxy_opens_a_console(scene: Logins, login: str) -> None:
    """The browser adds the cookie or the password to the request."""
    page = scene.page(scene.proxy.ports[login], login)
    before = scene.consoles()
    assert scene.console(page, login) == "opened "
    assert scene.consoles() == before + 1
    page.close()
    until(
        lambda: re.search(
            rf'"kind":"console".*"listener":"{login}".*"principal":"alice".*"status":101', scene.proxy.log()
        ),
        "it is logged with the user's name",
    )


@pytest.mark.parametrize("login", LOGINS)
def test_a_page_of_a_foreign_origin_opens_none(scene: Logins, login: str) -> None:
    """The browser adds the user's credentials to this request as well."""
    page = scene.page(scene.foreign, login)
    before, logged = scene.consoles(), len(scene.proxy.log())
    assert scene.console(page, f"any-{login}") == "opened ", "the attack works where every origin may"
    assert scene.consoles() == before + 1
    assert scene.console(page, login).strip() == "closed 1006"
    assert scene.consoles() == before + 1
    refused = rf'"listener":"{login}".*"status":403.*"error":"OriginRefused"'
    until(lambda: re.search(refused, scene.proxy.log()[logged:]), "it is refused for its origin")
    page.close()


def test_a_page_of_a_listed_origin_opens_a_console(scene: Logins) -> None:
    page = scene.page(scene.foreign, "cookie")
    assert scene.console(page, "listed-cookie") == "opened "
    page.close()


def test_a_console_ends_with_its_login(scene: Logins) -> None:
    """The page sees the close code and the reason."""
    scene.service.sessions["s1"] = "alice"
    page = scene.page(scene.proxy.ports["service"], "cookie")
    assert scene.console(page, "service") == "opened "
    time.sleep(1.5)  # the service has been asked again
    assert page.evaluate("window.said") == "opened "
    del scene.service.sessions["s1"]
    ended = until(
        lambda: "closed" in page.evaluate("window.said") and page.evaluate("window.said"), "it ends"
    )
    assert ended == "opened closed 1008 login ended"
    assert scene.console(page, "service").strip() == "closed 1006"
    page.close()

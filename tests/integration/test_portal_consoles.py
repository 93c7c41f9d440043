"""The portal of a proxy with one worker and a simulated vCenter: logins that last, consoles in Chromium."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import oidc_provider_mock
import pytest

from esxiproxy.admin import page_library
from esxiproxy.portal import viewer_library
from esxiproxy.web.npm_files import FetchError
from tests.admin_page.view import View
from tests.support import config, vcenter_program
from tests.support.browser import Chromium
from tests.support.programs import Proxy, need, until
from tests.support.vcenter_program import PASSWORD, VCenterProgram
from tests.support.websocket_peers import Client
from tests.viewer.test_viewer import View as ConsoleView

RFB = b"RFB 003.008\n"
LONG = os.environ.get("ESXIPROXY_LONG") == "1"
GOES_ON_WITHIN = 5.0 if LONG else 15.0
"""Seconds until a console goes on at another host; other programs may have the processors in a short run."""
RULES = (
    "[access users]\nwho = staff/alice, sso/carol\nwhat = folder:/Prod/*\nmay = open\n\n"
    "[access operators]\nwho = staff/root\nwhat = vsphere:dc1\nmay = open, power, disconnect\n\n"
)


class PortalProxy(Proxy):
    """A proxy that is ready when its worker and its admin process are."""

    def is_ready(self) -> bool:
        return super().is_ready() and "all workers are ready" in self.log()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.ports['people']}/"

    def ask(self, method: str, path: str, body: str = "", **fields: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["people"], timeout=20)
        connection.request(method, path, body or None, {key.replace("_", "-"): fields[key] for key in fields})
        answer = connection.getresponse()
        first_of_each = dict(reversed(answer.getheaders()))
        return answer.status, first_of_each, answer.read()

    def log_in(self, user: str) -> str:
        """Return the cookie of a new login."""
        _, _, page = self.ask("GET", "/login")
        (token,) = re.findall(rb'name="token" value="([^"]+)"', page)
        form = {"name": user, "password": user, "token": token.decode(), "next": "/vm/web-01"}
        cookie = f"__Host-esxiproxy-form={token.decode()}"
        sent = {"Content_Type": "application/x-www-form-urlencoded", "Cookie": cookie}
        assert self.ask("POST", "/login", urlencode({**form, "password": "x"}), **sent)[0] == 403
        status, fields, _ = self.ask("POST", "/login", urlencode(form), **sent)
        assert (status, fields["Location"]) == (303, "/vm/web-01")
        return fields["Set-Cookie"].partition(";")[0]

    def opening(self, path: str, cookie: str = "") -> tuple[int, Client]:
        """Return the status of an opening handshake, and its client."""
        client = Client(self.ports["people"], timeout=25)
        client.send_opening(path, ["binary"], [("Cookie", cookie)] if cookie else [])
        return client.recv_head().status, client

    def admin(self) -> int:
        """Return the pid of the admin process."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"esxiproxy.workers" in line and b"admin" in line and str(self.path).encode() in line:
                    return int(entry.name)
        raise AssertionError("there is no admin process")


@dataclass
class PortalScene:
    proxy: PortalProxy
    vcenter: VCenterProgram
    issuer: str


def hashed(password: str) -> str:
    return "{SHA}" + b64encode(sha1(password.encode()).digest()).decode()


@pytest.fixture(scope="module")
def scene() -> Iterator[PortalScene]:
    for fetch in (page_library.fetch, viewer_library.fetch):  # a proxy reads the files when it starts
        with contextlib.suppress(FetchError):
            fetch()
    vcenter = vcenter_program.start("--machines", "12", "--hosts", "2", "--task-time", "0")
    text = (
        f"[vsphere dc1]\nurl = {vcenter.url}\nuser = {vcenter.user}\npassword_file = vc.password\n"
        f"verify = pin\npin = sha256:{vcenter.ready['sha256']}\n\n{RULES}"
    )
    with oidc_provider_mock.run_server_in_thread() as server:
        yield from running(vcenter, text, f"http://localhost:{server.server_port}")


def running(vcenter: VCenterProgram, text: str, issuer: str) -> Iterator[PortalScene]:
    routed = {"access": "users, operators", "template": "esxi", "allow": "127.0.0.0/8"}
    portal = {"http": "portal", "public_url": "http://localhost:1", "authenticator": "login"}
    text += config.ini(
        config.listener("people", None, router="vms", **portal),
        config.authenticator("login", "session", providers="staff, sso"),
        config.authenticator("sso", "oidc", issuer=issuer, client_id="c", client_secret_file="vc.password"),
        config.authenticator("staff", "htpasswd", file="users"),
        config.router("vms", "vsphere", vsphere="dc1", **routed),
        config.template(verify="pin"),
        close_timeout="1s",
    )
    proxy = PortalProxy(text)
    users = "".join(f"{name}:{hashed(name)}\n" for name in ("alice", "root"))
    for name, content in (("users", users), ("vc.password", f"{PASSWORD}\n")):
        (proxy.folder / name).write_text(content)
        (proxy.folder / name).chmod(0o600)
    try:
        with proxy:
            yield PortalScene(proxy, vcenter, issuer)
            proxy.assert_clean()
    finally:
        vcenter_program.stop(vcenter)


def test_a_login_outlives_the_admin_process_and_a_reload(scene: PortalScene) -> None:
    proxy = scene.proxy
    cookie = proxy.log_in("alice")

    def machines() -> list[str]:
        status, _, body = proxy.ask(
            "GET", "/api/machines", Cookie=cookie, X_Esxiproxy_Principal="staff/root", X_Esxiproxy_Login="x"
        )
        assert status in (200, 502, 503)
        found = json.loads(body) if status == 200 else {"user": "alice", "machines": []}
        assert found["user"] == "alice"
        return [each["name"] for each in found["machines"]]

    until(lambda: "web-01" in machines(), "the machines are read")
    assert proxy.ask("GET", "/api/machines", X_Esxiproxy_Principal="staff/alice")[0] == 401
    os.kill(proxy.admin(), signal.SIGKILL)
    until(lambda: "web-01" in machines(), "the portal is back")
    os.kill(proxy.pid, signal.SIGHUP)
    until(lambda: "is in force" in proxy.log(), "the reload has ended")
    until(lambda: "web-01" in machines(), "the machines are read again")
    # A machine without a right is nowhere: not in the list, by no URL, in no link.
    hidden = scene.vcenter.machine("staging")["uuid"]
    assert "staging" not in machines()
    json_type = {"Cookie": cookie, "Content_Type": "application/json"}
    for path in (
        f"/api/machines/dc1/{hidden}",
        "/api/find?vm=staging",
        f"/api/machines/dc1/{hidden}/thumbnail",
    ):
        assert proxy.ask("GET", path, Cookie=cookie)[0] == 404
    assert proxy.ask("POST", "/api/consoles", '{"vm": "staging"}', **json_type)[0] == 404
    assert proxy.opening("/vm/staging", cookie)[0] == proxy.opening(f"/vm/dc1/{hidden}", cookie)[0] == 404
    assert proxy.opening("/vm/web-01")[0] == 401
    # A link opens the console once.
    status, _, body = proxy.ask("POST", "/api/consoles", '{"vm": "web-01"}', **json_type)
    link = urlsplit(json.loads(body)["url"]).path
    assert status == 201 and json.loads(body)["expires"] > time.time()
    status, client = proxy.opening(link, cookie)
    assert status == 101 and client.recv_frame().payload == RFB
    assert proxy.opening(link, cookie)[0] in (404, 409)
    # The logout closes the console of the login, and the request for it has its answer.
    other = proxy.log_in("root")
    status, second = proxy.opening("/vm/web-01", cookie)
    status, third = proxy.opening("/vm/web-01", other)
    assert status == 101
    assert proxy.ask("POST", "/api/logout", "{}", **json_type)[0] == 200
    for console in (client, second):
        until(lambda console=console: console.recv_frame().opcode == 8, "the console is closed")
    assert proxy.ask("GET", "/api/machines", Cookie=cookie)[0] == 401
    assert third.recv_frame().payload == RFB
    third.drop()
    for secret in (cookie.partition("=")[2], other.partition("=")[2], link.rpartition("/")[2]):
        assert secret not in proxy.log()


def test_a_user_logs_in_at_a_provider_of_others(scene: PortalScene) -> None:
    proxy = scene.proxy
    status, fields, _ = proxy.ask("GET", "/login/with/sso?next=/vm/web-01")
    attempt = fields["Set-Cookie"].partition(";")[0]
    assert status == 303 and fields["Location"].startswith(scene.issuer)
    request = urllib.request.Request(fields["Location"], data=b"sub=carol")
    try:
        urllib.request.build_opener(NoRedirect).open(request, timeout=20)
        raise AssertionError("the provider sends the browser back")
    except urllib.error.HTTPError as answer:
        back = urlsplit(answer.headers["Location"])
    assert back.path == "/login/callback"
    status, fields, _ = proxy.ask("GET", f"{back.path}?{back.query}", Cookie=attempt)
    assert (status, fields["Location"]) == (303, "/vm/web-01"), proxy.log()
    cookie = fields["Set-Cookie"].partition(";")[0]
    status, _, body = proxy.ask("GET", "/api/find?vm=web-01", Cookie=cookie)
    assert status == 200 and json.loads(body)["rights"] == ["open"]
    for secret in re.findall(r"(?:code|state)=([^&]+)", back.query):
        assert secret not in proxy.log()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def test_a_console_in_the_browser_goes_on_at_another_host(scene: PortalScene) -> None:
    if page_library.missing() or viewer_library.missing():
        need("@novnc/novnc", "npm, and a way to its registry")
    with Chromium() as chromium:
        view = View(chromium.open("about:blank"), scene.proxy)
        view.page.call("Page.navigate", url=scene.proxy.url)
        view.fill("input[name=name]", "alice")
        view.fill("input[name=password]", "alice")
        view.page.key("Enter")
        view.wait("document.querySelectorAll('.machine').length > 0")
        assert "staging" not in view.text() and "web-01" in view.text()
        view.wait("[...document.images].some(image => image.naturalWidth > 0)")
        href = view.evaluate(
            "[...document.querySelectorAll('a.name')].find(a => a.innerText === 'web-01').href"
        )
        console = ConsoleView(chromium.open(href))
        console.state("open")
        console.wait("document.activeElement.tagName === 'CANVAS'")
        for key in "hi":
            console.key(key, f"Key{key.upper()}")
        until(lambda: console.has_typed("hi"), "the typed text is in the picture")

        (away,) = set(scene.vcenter.state()["hosts"]) - {scene.vcenter.machine("web-01")["host"]}
        begin = time.monotonic()
        scene.vcenter.control("PATCH", "/machines/web-01", host=away)
        until(lambda: scene.vcenter.state()["hosts"][away]["consoles"] == 1, "it goes on", 2 * GOES_ON_WITHIN)
        console.state("open")
        taken = time.monotonic() - begin
        print(f"the console went on after {taken:.1f} s")
        assert taken < GOES_ON_WITHIN
        until(lambda: console.has_typed("hi"), "the picture of the machine is there again")
        # A user with the right ends the console, whose page does not come back by itself.
        machine = f"/api/machines/dc1/{scene.vcenter.machine('web-01')['uuid']}"
        operator = scene.proxy.log_in("root")
        _, _, body = scene.proxy.ask("GET", f"{machine}/connections", Cookie=operator)
        labels = [each["label"] for each in json.loads(body)["connections"]]
        assert len(labels) == 1
        sent = {"Cookie": operator, "Content_Type": "application/json"}
        assert scene.proxy.ask("POST", f"{machine}/drop", json.dumps({"labels": labels}), **sent)[0] == 202
        console.state("closed")
        assert console.text("sentence") == "A user of the portal has ended consoles of this machine."
        console.click("again")
        console.state("open")
        scene.vcenter.control("PATCH", "/machines/web-01", max_consoles=1)
        full = ConsoleView(chromium.open(href))
        sentence = "All consoles of this machine are in use."
        full.wait(f"document.getElementById('sentence').textContent === '{sentence}'")
        full.page.close()
        view.press("Log out")
        view.wait("document.querySelector('input[name=name]')")
        console.state("closed")
        assert "login ended" in console.text("sentence")
        view.page.close()
        console.page.close()

"""The HTML console of the simulated vCenter, without a network: what its pages and its WebSocket refuse."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from twisted.internet.testing import StringTransport

from esxiproxy.sim.rfb import RfbServer
from esxiproxy.sim.screen.screen import Screen
from esxiproxy.sim.vcenter.options import PASSWORD, USER
from esxiproxy.sim.vcenter.rest import RestEndpoint
from esxiproxy.sim.vcenter.site import make_site
from tests.sim.vcenter_calls import Client

NAME = "vc-01.lab.example"
OWN = {"Host": NAME, "Origin": f"https://{NAME}"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "binary",
}


class Browser:
    """A client of the pages that keeps its cookie."""

    def __init__(self) -> None:
        self.client = Client()
        vcenter = self.client.vcenter
        self.console = vcenter._console
        self._site = make_site(
            vcenter.soap,
            RestEndpoint(vcenter.inventory, vcenter.sessions, vcenter.machines.issue),
            vcenter.inventory,
            vcenter.sessions,
            ("8.0",),
            self.console,
        )
        self._site.reactor = self.client.clock
        self.cookie = ""

    def ask(self, method: str, path: str, body: str = "", **fields: str) -> tuple[int, str]:
        """Return the status of an answer, and the whole of it."""
        sent = OWN | {"Cookie": self.cookie} | {name.replace("_", "-"): each for name, each in fields.items()}
        if body:
            sent |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        transport: Any = StringTransport()
        protocol = self._site.buildProtocol(None)
        transport.protocol = protocol  # as connections have it, which autobahn takes over
        protocol.makeConnection(transport)
        protocol.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n" + body.encode())
        answer = transport.value().decode("latin-1")
        if (found := re.search(r"Set-Cookie: ([^;]+); Path=/ui; Secure; HttpOnly", answer)) is not None:
            self.cookie = found[1]
        return int(answer.split()[1]), answer

    def log_in(self, password: str = PASSWORD, **fields: str) -> int:
        return self.ask("POST", "/ui/login", urlencode({"user": USER, "password": password}), **fields)[0]


@pytest.fixture
def browser() -> Browser:
    return Browser()


def test_the_pages_need_their_name_their_origin_and_a_login(browser: Browser) -> None:
    for path in ("/ui/", "/ui/webconsole.html?vmId=vm-8", "/ui/webconsole.js", "/ui/webconsole/authd"):
        assert browser.ask("GET", path)[0] == 401
    assert browser.ask("GET", "/ui/login", Host="127.0.0.1:8093")[0] == 400
    assert browser.log_in(Origin="https://proxy.example") == 403
    assert browser.log_in("wrong") == 401 and not browser.cookie
    assert browser.log_in() == 303
    status, listed = browser.ask("GET", "/ui/")
    links = re.findall(r'href="(/ui/webconsole\.html\?[^"]+)">web-01<', listed)
    assert status == 200 and "sessionTicket=cst-VCT-" in links[0]
    assert "<li>old-erp" in listed, "a machine without power has no console"
    moid = browser.client.moid("old-erp")
    assert browser.ask("GET", f"/ui/webconsole.html?vmId={moid}")[0] == 409


def test_a_ticket_of_the_page_opens_one_console(browser: Browser) -> None:
    browser.log_in()
    _, page = browser.ask("GET", f"/ui/webconsole.html?vmId={browser.client.moid('web-01')}")
    (query,) = re.findall(r'data-query="([^"]+)"', page)
    assert "host=127.0.0." in query and "port=902" in query
    path = "/ui/webconsole/authd?" + query.replace("&amp;", "&")
    fields = {name.replace("-", "_"): value for name, value in UPGRADE.items()}
    assert browser.ask("GET", path, Origin="https://proxy.example", **fields)[0] == 403
    machine = browser.client.machine("web-01")
    status, answer = browser.ask("GET", path, **fields)
    assert status == 101 and answer.partition("\r\n\r\n")[2][2:].startswith("\x02\x80\x01\x90 \x18")
    assert "web-01" in answer and machine.viewers == 1
    assert browser.ask("GET", path, **fields)[0] == 403, "the ticket was used"
    machine.end_consoles(1001, "moved")
    assert machine.viewers == 0


def test_a_console_may_begin_with_its_init() -> None:
    server = RfbServer(Screen(640, 400, "web-01"), "web-01", begins_with_init=True)
    assert server.bytes_to_send()[:4] == b"\x02\x80\x01\x90"
    server.receive(b"\x03\x00" + bytes(4) + b"\x02\x80\x01\x90")
    assert server.update()[:4] == b"\x00\x00\x00\x01"

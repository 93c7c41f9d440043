"""The page of the real admin service: consoles in browser tabs come, go, and are ended from another tab."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from esxiproxy.admin import page_library
from tests.admin_page.view import View
from tests.support.browser import Chromium, Page, pages
from tests.support.crowd import EchoUpstream
from tests.support.programs import TICKET, Proxy, need, until

SOON = 2.0
OPERATOR, VIEWER, PASSWORD = "ada", "grace", "a password of the tests"
TEXT = """
[admin]
socket = {socket}
listen = 127.0.0.1:0
authenticator = staff
operators = ada
viewers = grace
names = 127.0.0.1
audit_log = audit.log

[authenticator staff]
type = htpasswd
file = users

[listener consoles]
listen = 127.0.0.1:0
upstream = echo
origins = any

[upstream echo]
url = ws://127.0.0.1:{upstream}
max_connections = 50
"""
CONSOLE = """<!doctype html><meta charset=utf-8><title>console</title>"""
OPEN = """new Promise(resolve => {
  window.consoles ??= [];
  window.ended ??= [];
  const opened = new WebSocket('ws://127.0.0.1:PORT/ticket/NAME', ['binary']);
  opened.onopen = () => resolve(true);
  opened.onclose = event => window.ended.push([event.code, event.reason]);
  window.consoles.push(opened);
})"""


class AdminProxy(Proxy):
    """A proxy with an admin service; ``page`` is the port of its page."""

    page = 0

    def is_ready(self) -> bool:
        found = re.search(r"admin listen listening on \S*:(\d+)", self.log())
        self.page = int(found[1]) if found else 0
        return bool(self.page) and super().is_ready()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.page}/"


@pytest.fixture(scope="module")
def proxy(upstream: EchoUpstream) -> Iterator[AdminProxy]:
    try:
        page_library.fetch()
    except page_library.FetchError:
        need("htm", "npm, and a way to its registry")
    made = AdminProxy(TEXT.format(socket="admin.sock", upstream=upstream.port))
    command = [need("htpasswd", "apache2-utils"), "-i", "-B", "-C", "5"]
    for number, user in enumerate((OPERATOR, VIEWER)):
        options = [*command, *(() if number else ("-c",)), str(made.folder / "users"), user]
        subprocess.run(options, input=PASSWORD, text=True, check=True, timeout=60, capture_output=True)
    (made.folder / "users").chmod(0o600)
    with made as running:
        yield running


@pytest.fixture
def client(chromium: Chromium, tmp_path: Path) -> Iterator[Page]:
    """Open a tab that shows consoles, from another site than the page."""
    (tmp_path / "index.html").write_text(CONSOLE)
    with pages(tmp_path) as port:
        page = chromium.open(f"http://127.0.0.1:{port}/")
        until(lambda: page.evaluate("document.title") == "console", "the tab of consoles is there")
        yield page
        page.close()


def show(chromium: Chromium, proxy: AdminProxy, user: str = OPERATOR) -> View:
    view = View(chromium.open("about:blank"), proxy)
    token = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
    view.page.call("Network.enable")
    view.page.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {token}"})
    return view.open("", rows=False)


def connect(client: Page, proxy: AdminProxy, name: str = TICKET) -> None:
    assert client.evaluate(OPEN.replace("PORT", str(proxy.ports["consoles"])).replace("NAME", name))


ROWS = "document.querySelectorAll('tbody tr').length"


def test_a_kill_closes_the_console_in_a_second_tab_with_its_reason(
    chromium: Chromium, proxy: AdminProxy, client: Page
) -> None:
    view = show(chromium, proxy)
    assert "staff/ada" in view.text(".who") and "operator" in view.text(".who")
    assert view.rows() == 0
    connect(client, proxy)
    view.wait(f"{ROWS} === 1", SOON)
    connect(client, proxy)
    view.wait(f"{ROWS} === 2", SOON)
    client.evaluate("window.consoles[1].close(1000)")
    view.wait(f"{ROWS} === 1", SOON)
    view.wait("document.title.startsWith('1 console ')", 10)
    view.click("tbody button")
    reason = "maintenance at 4: " + "ü" * 60
    view.fill("dialog [name=reason]", reason)
    view.press("End 1 console")
    closed = until(lambda: client.evaluate("window.ended.length > 1 && window.ended"), "it is closed")
    assert closed[0] == [1000, ""]
    code, said = closed[1]
    assert code == 1008 and len(said.encode()) <= 123 and said.startswith("maintenance at 4: üüü")
    assert reason.startswith(said)
    view.wait(f"{ROWS} === 0", SOON)
    assert view.faults() == []
    view.page.close()
    lines = [json.loads(line) for line in (proxy.folder / "audit.log").read_text().splitlines()]
    assert any("staff/ada" in json.dumps(line) and "maintenance at 4" in json.dumps(line) for line in lines)


def test_a_host_is_drained_takes_no_console_and_is_undrained(
    chromium: Chromium, proxy: AdminProxy, client: Page
) -> None:
    connect(client, proxy)
    view = show(chromium, proxy)
    view.wait(f"{ROWS} === 1", SOON)
    view.click(".views a[href='#upstreams']")
    view.press("Drain the upstream echo")
    view.wait("document.querySelector('dialog').innerText.includes('1 console runs there now')")
    view.fill("dialog [name=reason]", "new memory")
    view.press("Drain")
    view.wait("document.querySelector('tbody tr')?.innerText.includes('drained')")
    refused = OPEN.replace("PORT", str(proxy.ports["consoles"])).replace("opened.onopen", "opened.onerror")
    assert client.evaluate(refused)
    view.click(".views a[href='#drains']")
    view.wait("document.querySelector('tbody tr')?.innerText.includes('new memory')")
    view.press("Undrain the upstream echo")
    view.fill("dialog [name=reason]", "it is in")
    view.press("Undrain")
    view.wait("document.querySelector('.empty')?.innerText.includes('Nothing is drained.')")
    connect(client, proxy)
    view.page.close()


def test_a_failure_is_explained(chromium: Chromium, proxy: AdminProxy, client: Page) -> None:
    view = show(chromium, proxy)
    view.click(".views a[href='#failures']")
    view.wait("document.querySelector('tbody')?.innerText.includes('Draining')")
    assert TICKET not in view.text()
    view.page.close()


def test_each_list_is_shown_and_the_console_of_the_browser_stays_empty(
    chromium: Chromium, proxy: AdminProxy
) -> None:
    view = show(chromium, proxy)
    for name in ("hosts", "failures", "listeners", "upstreams", "workers", "drains", "links"):
        view.click(f".views a[href='#{name}']")
        view.wait(f"location.hash === '#{name}' && document.querySelector('.frame table[aria-busy=false]')")
        assert not view.evaluate("document.querySelector('.problem')")
    view.click(".views a[href='#configuration']")
    view.wait("document.querySelector('.sections')?.innerText.includes('[upstream echo]')")
    view.press("Check the file…")
    view.wait("document.querySelector('dialog').innerText.includes('can be put into force')")
    view.press("Close")
    view.press("Reload…")
    view.fill("dialog [name=reason]", "a test")
    view.press("Reload")
    view.wait("document.querySelector('.message').innerText.includes('is in force')")
    view.wait("document.querySelector('.live.live')")
    assert [fault for fault in view.faults() if "api/v1/events" not in fault] == []
    view.page.close()


def test_a_viewer_sees_and_does_nothing(chromium: Chromium, proxy: AdminProxy, client: Page) -> None:
    connect(client, proxy)
    view = show(chromium, proxy, VIEWER)
    view.wait(f"{ROWS} === 1", SOON)
    assert "viewer" in view.text(".who")
    assert view.text("tbody button") == "Details"
    fields = "{'Content-Type': 'application/json', 'X-Esxiproxy': '1'}"
    body = "JSON.stringify({kind: 'host', value: '127.0.0.1', reason: 'x'})"
    kill = f"fetch('api/v1/kill', {{method: 'POST', headers: {fields}, body: {body}}}).then(a => a.status)"
    assert view.evaluate(kill) == 403
    assert "403" in view.faults()[0]
    view.page.close()

"""The page of the portal in Chromium: login, search, live changes, actions, logout, hostile names, axe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from esxiproxy.admin import page_library
from esxiproxy.web import npm_files
from tests.admin_page.test_accessibility import AXE, FOLDER, RUN
from tests.admin_page.view import DESKTOP, PHONE, View
from tests.support.browser import Chromium
from tests.support.crowd import EchoUpstream
from tests.support.portal_machines import HOSTILE, PowerState, machine, person
from tests.support.programs import need, until
from tests.support.running_portal import RunningPortal

SOON = 2.0
ROWS = "document.querySelectorAll('.machine').length"
HIDDEN = "/[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]/u"
CONSOLE = """new Promise(resolve => {
  window.ended = null;
  const opened = new WebSocket(`ws://${location.host}/ticket/name`, ['binary']);
  opened.onopen = () => resolve(true);
  opened.onclose = event => { window.ended = [event.code, event.reason]; resolve(false); };
})"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    try:
        page_library.fetch()
        npm_files.fetch(FOLDER, [AXE])
    except npm_files.FetchError:
        need("axe-core", "npm, and a way to its registry")
    with Chromium() as running:
        yield running


@pytest.fixture
def portal(tmp_path: Path, upstream: EchoUpstream) -> Iterator[RunningPortal]:
    machines = [machine(number, folder=f"/Prod/{number % 7}") for number in range(300)]
    machines += [machine(1000 + number, name, tags=frozenset({name})) for number, name in enumerate(HOSTILE)]
    machines.append(machine(2000, "hidden", tags=frozenset({"private"})))
    with RunningPortal(tmp_path, *machines, upstream=upstream.port) as running:
        yield running


@pytest.fixture
def view(chromium: Chromium, portal: RunningPortal) -> Iterator[View]:
    view = View(chromium.open("about:blank"), portal)
    yield view
    faults = [fault for fault in view.faults() if "Autofocus" not in fault]
    view.page.close()
    assert not faults, "\n".join(faults)


def log_in(view: View, portal: RunningPortal, user: str = "ops", path: str = "") -> None:
    view.page.call("Page.navigate", url=f"{portal.url}{path}")
    view.fill("input[name=name]", user)
    view.fill("input[name=password]", user)
    view.page.key("Enter")
    view.wait("document.querySelector('.live.live') && document.querySelector('.who')")


def violations(view: View) -> list[str]:
    view.evaluate(f"{(FOLDER / 'axe.min.js').read_text(encoding='utf-8')}; true")
    found: list[str] = view.evaluate(RUN)
    return found


def test_a_user_logs_in_finds_a_machine_and_sees_what_changes(view: View, portal: RunningPortal) -> None:
    view.page.call("Page.navigate", url=f"{portal.url}?search=0007")
    view.wait("document.querySelector('input[name=name]')")
    for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        view.page.show(*size, scheme)
        assert violations(view) == []
    view.page.show(*DESKTOP)
    log_in(view, portal, "ops")
    view.wait(f"{ROWS} === 50")
    view.fill("#search", "web-0007")
    view.wait(f"{ROWS} === 1")
    assert view.evaluate("location.search") == "?search=web-0007"
    uses = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('/machines?limit=1')).length"
    until(lambda: view.evaluate(uses) in (1, 2), "the search is a use of the login, every 20 s")
    view.page.key("ArrowDown")
    assert view.focused() == "a web-0007"
    href = view.evaluate("document.activeElement.pathname")
    assert href == f"/vm/dc1/{machine(7).uuid}"
    portal.put(replace(machine(7), power=PowerState.OFF))
    view.wait("document.querySelector('.badge').innerText === 'off'", SOON)
    view.press("Power on web-0007")
    view.wait("document.querySelector('.badge').innerText === 'on'", SOON)
    view.press("Favourite: web-0007")
    view.wait("document.querySelector('.star').getAttribute('aria-pressed') === 'true'", SOON)
    view.press("★ Favourites")
    view.wait("location.search.includes('favourites=1')")
    portal.service.people = [person("7", user="staff/bob"), person("8", user=HOSTILE[0])]
    view.press("Consoles of web-0007")
    view.wait("document.querySelectorAll('dialog label').length === 2")
    assert violations(view) == []
    view.click("dialog input")
    view.press("End 1 console")
    view.wait("!document.querySelector('dialog')")
    view.wait("document.querySelector('.message').innerText.includes('1 console of web-0007 ended')")
    calls = [call[0] for call in portal.service.calls if call[0] != "thumbnail"]
    assert calls == ["power", "connections", "drop"]


def test_a_logout_closes_the_console_and_leads_to_the_form(view: View, portal: RunningPortal) -> None:
    log_in(view, portal, "alice")
    assert "hidden" not in view.text() and not view.evaluate(
        "document.querySelectorAll('[aria-label^=\"Power on\"]').length"
    )
    first = json.dumps(view.page.call("Network.getCookies", urls=[portal.url])["cookies"])
    assert '"httpOnly": true' in first and '"secure": true' in first and "__Host-esxiproxy" in first
    assert view.evaluate("document.cookie") == ""
    assert view.evaluate(CONSOLE) is True
    ended = (
        "fetch('/api/logout', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})"
        ".then(() => new Promise(resolve => setInterval(() => window.ended && resolve(window.ended), 20)))"
    )
    assert view.evaluate(ended) == [1008, "login ended"]
    view.wait("document.querySelector('input[name=name]')", 10)
    refused = view.page.call("Network.getCookies", urls=[portal.url])["cookies"]
    assert [each["name"] for each in refused] == ["__Host-esxiproxy-form"]
    # The browser prefers an event for cookies.  The stream has ended with the login.
    odd = [
        fault
        for fault in view.faults()
        if not re.search("PerformanceIssue|status of 401|INCOMPLETE|Autofocus", fault)
    ]
    assert odd == []


def test_a_page_comes_back_after_the_login_form(view: View, portal: RunningPortal) -> None:
    view.page.call("Page.navigate", url=f"{portal.url}vm/dc1/{machine(3).uuid}")
    view.fill("input[name=name]", "alice")
    view.fill("input[name=password]", "wrong")
    view.page.key("Enter")
    view.wait("document.querySelector('#problem')?.innerText.includes('wrong')")
    view.fill("input[name=name]", "alice")
    view.fill("input[name=password]", "alice")
    view.page.key("Enter")
    view.wait(f"location.pathname === '/vm/dc1/{machine(3).uuid}'")
    view.page.call("Page.navigate", url=f"{portal.url}vm/%ff")
    sentence = "The address of this page names no machine."
    view.wait(f"document.querySelector('#problem')?.innerText === '{sentence}'")
    view.faults()  # the status of a wrong password


def test_hostile_names_are_text_and_axe_finds_nothing(view: View, portal: RunningPortal) -> None:
    log_in(view, portal, "ops")
    view.fill("#search", "5012a4ab-0000-0000-0000-0000000003e")
    view.wait(f"{ROWS} === {len(HOSTILE)}")
    assert view.evaluate("document.title") == "Consoles"
    assert view.evaluate("document.querySelectorAll('script:not([src]), iframe, [onerror]').length") == 0
    shown = "document.body.textContent + [...document.querySelectorAll('*')].flatMap(e => "
    shown += "['title', 'aria-label'].map(a => e.getAttribute(a) ?? '')).join('')"
    assert not view.evaluate(f"{HIDDEN}.test(({shown}).replaceAll('\\n', ''))"), "nothing is invisible"
    portal.call(lambda: setattr(portal.inventory, "problem", "refused"))
    until(lambda: "may be missing or out of date" in view.text(), "the problem is shown", SOON)
    sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    for size, scheme in ((DESKTOP, "dark"), (PHONE, "light")):
        view.page.show(*size, scheme)
        assert violations(view) == []
        assert not view.evaluate(sideways), "the page does not scroll sideways"

"""The viewer in Chromium: typed text appears in the picture, and a lost console is opened again."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image, ImageChops

from esxiproxy.portal import viewer_library
from esxiproxy.sim.screen.screen import PALETTE, Screen
from esxiproxy.web.npm_files import FetchError, fetch
from tests.admin_page.test_accessibility import AXE, FOLDER, RUN
from tests.support import sim_program
from tests.support.browser import Chromium, Page, pages
from tests.support.programs import need, until

TEXT_TOP = 152
"""The first row of pixels below which the simulated machine shows what was typed."""
START = """
import RFB from "/viewer/novnc/core/rfb.js";
import { showConsole } from "/viewer/viewer.js";
const { host, queries, resize, isOnce } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
window.states = [];
window.sizes = [];
window.uses = 0;
const url = async () => {
  const ticket = await (await fetch(`http://127.0.0.1:${host}/sim/ticket`)).text();
  return `ws://127.0.0.1:${host}/ticket/${ticket.trim()}${queries.shift() ?? ""}`;
};
window.shown = showConsole(RFB, {
  machine: { name: "web-1 <b>\\u202e" },
  url,
  explain: async () => ({ sentence: "The machine is powered off.", isFinal: true }),
  resize: resize && (async (width, height) => window.sizes.push([width, height])),
  probe: "/viewer/viewer.css",
  used: () => (window.uses += 1),
  isOnce,
});
shown.addEventListener("state", ({ detail }) => states.push([detail.state, detail.sentence]));
"""


class View:
    """The page of one console."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.call("Runtime.enable")
        page.show(1280, 900, "dark")

    def wait(self, condition: str) -> Any:
        return until(lambda: self.page.evaluate(condition) or None, condition)

    def state(self, word: str) -> None:
        self.wait(f"document.getElementById('state').textContent === {json.dumps(word)}")

    def text(self, identity: str) -> str:
        shown: str = self.page.evaluate(f"document.getElementById({json.dumps(identity)}).textContent")
        return shown

    def click(self, identity: str) -> None:
        self.page.evaluate(f"document.getElementById({json.dumps(identity)}).click()")

    def key(self, key: str, code: str, modifiers: int = 0) -> None:
        """Press and release a key of a keyboard whose layout may be any."""
        for kind in ("keyDown", "keyUp"):
            self.page.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=modifiers)

    def has_typed(self, text: str) -> bool:
        url = self.page.evaluate("document.querySelector('canvas')?.toDataURL('image/png') ?? ''")
        if not url:
            return False
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            seen = picture.convert("RGB")
        screen = Screen()
        for character in text:
            screen.key(0xFF0D if character == "\n" else ord(character))
        octets = b"".join(bytes(PALETTE[index]) for index in screen.read(screen.bounds))
        wanted = Image.frombytes("RGB", (screen.width, screen.height), octets)
        box = (0, TEXT_TOP, screen.width, screen.height)
        return ImageChops.difference(seen.crop(box), wanted.crop(box)).getbbox() is None


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the viewer's files with a start script of the test, and yield the port."""
    try:
        viewer_library.fetch()
        fetch(FOLDER, [AXE])
    except FetchError:
        need("@novnc/novnc", "npm, and a way to its registry")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(viewer_library.FOLDER.parent, folder / "viewer")
    (folder / "viewer" / "start.js").write_text(START)
    with pages(folder) as port:
        yield port


@pytest.fixture
def host() -> Iterator[sim_program.Host]:
    running = sim_program.start()
    yield running
    assert sim_program.stop(running) == 0


@pytest.fixture
def show(chromium: Chromium, site: int, host: sim_program.Host) -> Iterator[Any]:
    views: list[View] = []

    def open_page(*queries: str, **settings: bool) -> View:
        options = quote(json.dumps({"host": host.port, "queries": queries, **settings}))
        views.append(View(chromium.open(f"http://127.0.0.1:{site}/viewer/viewer.html#{options}")))
        return views[-1]

    yield open_page
    for view in views:
        view.page.close()


def test_physical_keys_menus_and_a_typed_text(show: Any, tmp_path: Path) -> None:
    view = show()
    view.state("open")
    view.wait("document.activeElement.tagName === 'CANVAS'")
    assert view.page.evaluate("document.title") == "web-1 <b>\u202e – console"
    assert view.page.evaluate("document.querySelector('#name b')") is None
    # On a German keyboard the key with the code KeyY types z: the guest gets the key, and its layout types y.
    view.key("z", "KeyY")
    view.key("A", "ShiftLeft")
    view.key("ä", "Quote")
    until(lambda: view.has_typed("y'"), "the keys are in the picture")
    assert view.page.evaluate("uses") in (1, 2), "what is typed is a use of the login, every 20 s"
    # All keys are the guest's, so a user without a mouse needs a way out of the screen, and is told it.
    assert not view.page.evaluate("document.getElementById('hint').hidden")
    label = view.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == "Screen of the virtual machine; Ctrl+Alt leaves it"
    view.key("Tab", "Tab")
    assert view.page.evaluate("document.activeElement.tagName") == "CANVAS"
    for kind in ("keyDown", "keyUp"):
        for key, code in (("Control", "ControlLeft"), ("Alt", "AltLeft")):
            view.page.call("Input.dispatchKeyEvent", type=kind, key=key, code=code)
    assert view.page.evaluate("document.activeElement.id") == "ctrl-alt-del"
    view.click("physical")
    view.page.evaluate("shown.focus()")
    view.key("z", "KeyY")
    until(lambda: view.has_typed("y'z"), "the character is in the picture")
    view.click("physical")
    view.click("ctrl-alt-del")
    view.click("type")
    view.page.evaluate("document.getElementById('text').focus()")
    view.page.type("naïve ☃")
    assert "ï (U+00EF), ☃ (U+2603)" in view.text("text-problem")
    assert view.page.evaluate("document.getElementById('text-send').disabled")
    view.page.evaluate("document.getElementById('text').value = ''")
    view.page.type('Root "P@$$" {1}\n|~')
    assert view.text("text-problem") == ""
    view.click("text-send")
    view.wait("!document.getElementById('typing').open")
    until(lambda: view.has_typed('y\'zRoot "P@$$" {1}\n|~'), "the text is in the picture")
    assert view.page.evaluate("document.getElementById('text').value") == ""
    # The simulated host has no clipboard; where there is one, its text is shown and can be sent back.
    assert view.page.evaluate("document.getElementById('clipboard').hidden")
    view.page.evaluate("shown.paste = (text) => (window.pasted = text)")
    view.page.evaluate("shown.dispatchEvent(new CustomEvent('clipboard', { detail: 'a <b>text</b>' }))")
    assert not view.page.evaluate("document.getElementById('clipboard').hidden")
    assert view.page.evaluate("document.getElementById('clipboard-text').value") == "a <b>text</b>"
    view.click("clipboard-send")
    assert view.page.evaluate("pasted") == "a <b>text</b>"
    view.wait(r"/^\d+ ms, \d+ KiB\/s$/.test(document.getElementById('quality').textContent)")


def test_a_lost_console_is_opened_again_and_a_refused_one_shows_the_reason(
    show: Any, host: sim_program.Host
) -> None:
    view = show("?fault=drop&seconds=2", "?fault=close&seconds=2&code=1001", "")
    view.state("open")
    view.wait("states.filter(([state]) => state === 'open').length === 3")
    lost = [sentence for state, sentence in view.page.evaluate("states") if state == "waiting"]
    assert lost[0] == "The connection was lost." and "moved to another host" in lost[1]
    assert view.page.evaluate("document.getElementById('notice').hidden")
    until(lambda: host.stats()["consoles"] == 1, "one console is open")
    view.click("close")
    view.state("closed")
    assert view.text("sentence") == "You closed the console."
    until(lambda: host.stats()["consoles"] == 0, "the console is closed on the host, too")
    view.click("again")
    view.state("open")
    view.page.evaluate("shown._rfb.dispatchEvent(new CustomEvent('credentialsrequired'))")
    view.state("closed")
    assert view.text("sentence") == "The host asks for a password, which is not supported."

    ended = show("?fault=close&seconds=0.2&code=1008&reason=login%20ended")
    ended.wait("!document.getElementById('again').hidden && !document.getElementById('notice').hidden")
    assert ended.text("sentence") == "A rule of the proxy ended the console. The reason given: login ended"
    slow = show("?fault=delay&seconds=60")
    slow.state("connecting")
    slow.click("close")
    slow.state("closed")
    assert slow.text("sentence") == "You closed the console."
    refused = show("?fault=refuse&status=409")
    refused.state("closed")
    assert refused.text("sentence") == "The machine is powered off."


def test_a_link_opens_its_console_once_and_its_end_says_so(show: Any) -> None:
    lost = show("?fault=drop&seconds=0.2", isOnce=True)
    lost.state("closed")
    once = "Its link opens a console once: ask for another link where it came from."
    assert lost.text("sentence") == f"The connection was lost. {once}"
    assert lost.page.evaluate("document.getElementById('again').hidden")
    assert [state for state, _ in lost.page.evaluate("states")] == ["open", "ended"]
    refused = show("?fault=refuse&status=503", isOnce=True)
    refused.state("closed")
    assert not refused.page.evaluate("document.getElementById('again').hidden"), "it was not used"
    refused.click("again")
    refused.state("open")


def test_typing_is_cancelled_and_the_guest_is_resized_when_asked(show: Any) -> None:
    view = show(resize=True)
    view.state("open")
    assert view.page.evaluate("sizes.length") == 0
    view.click("resize")
    view.wait("sizes.length === 1")
    width, height = view.page.evaluate("sizes[0]")
    assert 1000 < width <= 1280 and 600 < height < 900 and width % 2 == 0
    view.click("type")
    view.page.evaluate("document.getElementById('text').focus()")
    view.page.type("x" * 400)
    view.click("text-send")
    view.wait("document.getElementById('text-progress').value > 2")
    view.click("text-cancel")
    view.wait("!document.getElementById('typing').open")
    typed = view.page.evaluate("document.getElementById('text-progress').value")
    assert typed < 200
    view.page.show(600, 500, "dark")
    view.wait("sizes.length === 2")


def test_axe_finds_nothing_in_a_console_its_dialog_and_its_end(show: Any) -> None:
    view = show(resize=True)
    view.state("open")
    view.page.evaluate(f"{(FOLDER / 'axe.min.js').read_text(encoding='utf-8')}; true")
    found = view.page.evaluate(RUN)
    view.page.show(320, 700, "dark")
    view.page.evaluate("document.getElementById('keys').open = true")
    found += view.page.evaluate(RUN)
    menu = "document.querySelector('#keys .menu').getBoundingClientRect()"
    left, top, right, bottom = view.page.evaluate(f"(b => [b.left, b.top, b.right, b.bottom])({menu})")
    assert 0 <= left < right <= 320 and 0 < top < bottom <= 700, "the menu is on the screen of a phone"
    view.page.evaluate("document.getElementById('keys').open = false")
    view.click("type")
    found += view.page.evaluate(RUN)
    view.click("text-cancel")
    view.click("close")
    view.state("closed")
    assert found + view.page.evaluate(RUN) == []

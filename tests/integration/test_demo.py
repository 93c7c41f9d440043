"""The demo as `make run` starts it: a page with a live console through each of the three listeners."""

from __future__ import annotations

import base64
import io
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from esxiproxy.sim.screen.screen import MARK, PALETTE, Screen
from tests.support.browser import Chromium, Page
from tests.support.demo_program import Demo, Visitor
from tests.support.programs import ROOT, need, until
from tests.support.rfb_client import RfbClient

BIN = Path(sys.executable).parent
WORD = "console"
CLOCK = (0.0, 40 / 400, 1.0, 96 / 400)
"""Where on the screen the clock is, as parts of its width and height."""
TEXT = (0.0, 152 / 400, 1.0, 1.0)
"""And where the typed text is."""
Box = tuple[float, float, float, float]


def debian() -> Path:
    """Return noVNC as Debian packages it."""
    folder = Path("/usr/share/novnc")
    if not (folder / "core" / "rfb.js").exists():
        need("/usr/share/novnc/core/rfb.js", "novnc")
    return folder


def npm() -> Path:
    """Fetch noVNC from the npm registry once, to the place where `make run` looks for it."""
    home = ROOT / ".cache" / "novnc"
    folder = home / "node_modules" / "@novnc" / "novnc"
    if not (folder / "core" / "rfb.js").exists():
        command = [need("npm", "npm"), "install", "--silent", "--no-fund", "--no-audit", "--prefix", home]
        if subprocess.run([*command, "@novnc/novnc"], timeout=120, check=False).returncode:
            need("@novnc/novnc", "npm, and a way to its registry")
    return folder


@pytest.fixture(scope="module", params=[debian, npm], ids=["Debian's noVNC", "npm's noVNC"])
def demo(request: pytest.FixtureRequest, chromium: Chromium) -> Iterator[Demo]:
    find: Callable[[], Path] = request.param
    with Demo(find()) as running:
        yield running


@pytest.fixture
def page(demo: Demo, chromium: Chromium) -> Iterator[Page]:
    """Open the page, and wait for its three consoles."""
    page = chromium.open("about:blank")
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=f"http://localhost:{demo.page}/")
    try:
        until(lambda: states(page) == ["open"] * 3, "three consoles are open", 20)
        until(lambda: all(map(drawn, painted(page, CLOCK))), "their pictures are there")
        yield page
    except AssertionError as problem:
        raise AssertionError(f"{problem}; the consoles say {states(page)}") from None
    finally:
        page.close()


def states(page: Page) -> list[str]:
    """Return the state that the page shows for each console."""
    said: list[str] = page.evaluate("[...document.querySelectorAll('.state')].map(e => e.textContent)")
    return said


def shot(page: Page) -> Image.Image:
    """Return a screenshot of the window."""
    taken = page.call("Page.captureScreenshot", format="png")
    with Image.open(io.BytesIO(base64.b64decode(taken["data"]))) as picture:
        return picture.convert("RGB")


def boxes(page: Page) -> list[Box]:
    """Return left, top, width and height of each console's picture in the window."""
    found: list[Box] = page.evaluate(
        "[...document.querySelectorAll('.screen canvas')].map(c => c.getBoundingClientRect())"
        ".map(b => [b.x, b.y, b.width, b.height])"
    )
    return found


def painted(page: Page, part: Box) -> list[Image.Image]:
    """Return this part of each console's screen as the browser paints it."""
    window = shot(page)
    pictures = []
    for left, top, width, height in boxes(page):
        x, y, right, bottom = part
        box = (left + x * width, top + y * height, left + right * width, top + bottom * height)
        assert box[2] <= window.width and box[3] <= window.height, "the console is not in the window"
        pictures.append(window.crop(tuple(map(round, box))))
    return pictures


def pixels(page: Page) -> list[Image.Image]:
    """Return each console's picture as noVNC has it, before it is scaled to the window."""
    urls = page.evaluate(
        "[...document.querySelectorAll('.screen canvas')].map(c => c.toDataURL('image/png'))"
    )
    pictures = []
    for url in urls:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures


def drawn(picture: Image.Image) -> bool:
    """Return whether a picture has more than one colour."""
    return len(picture.getcolors(1 << 16) or []) > 1


def differ(before: list[Image.Image], after: list[Image.Image]) -> bool:
    """Return whether each picture has changed."""
    pairs = zip(before, after, strict=True)
    return all(ImageChops.difference(one, other).getbbox() is not None for one, other in pairs)


def equal(wanted: list[Image.Image], seen: list[Image.Image]) -> bool:
    """Return whether each picture equals the expected one in every pixel."""
    pairs = zip(wanted, seen, strict=True)
    return all(ImageChops.difference(one, other).getbbox() is None for one, other in pairs)


def written(word: str) -> Image.Image:
    """Return the screen of a machine with this word on it."""
    screen = Screen()
    for letter in word:
        screen.key(ord(letter))
    octets = b"".join(bytes(PALETTE[index]) for index in screen.read(screen.bounds))
    return Image.frombytes("RGB", (screen.width, screen.height), octets)


def cut(picture: Image.Image, part: Box) -> Image.Image:
    """Return this part of a whole screen."""
    return picture.crop(
        tuple(round(side * (picture.width, picture.height)[place % 2]) for place, side in enumerate(part))
    )


def test_each_console_shows_a_moving_clock(page: Page) -> None:
    """All three pictures change without input."""
    before = painted(page, CLOCK)
    assert len(before) == 3
    until(lambda: differ(before, painted(page, CLOCK)), "three clocks have moved", 10)


def test_a_typed_word_appears_in_every_console(page: Page) -> None:
    """The consoles show one machine, so text that is typed into the first one appears in all of them."""
    before = painted(page, TEXT)
    for letter in WORD:
        page.press(letter)
    until(lambda: differ(before, painted(page, TEXT)), "the word is painted")
    wanted = [cut(written(WORD), TEXT)] * 3
    until(lambda: equal(wanted, [cut(picture, TEXT) for picture in pixels(page)]), "it is there whole")


def test_a_click_marks_the_same_place_in_every_console(page: Page) -> None:
    """The mouse works as well, at the place where it is in the scaled picture."""
    left, top, width, height = boxes(page)[1]
    place = {"x": left + width * 0.9, "y": top + height * 0.35, "button": "left", "clickCount": 1}
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, **place)
    until(lambda: all(map(marked, pixels(page))), "the mark is in three consoles")


def test_the_portal_of_the_page_has_the_machines_of_the_vcenter(demo: Demo) -> None:
    """The user and the password on the page give a list of machines, and a console by name."""
    with urllib.request.urlopen(f"http://localhost:{demo.page}/", timeout=10) as answer:
        text = answer.read().decode()
    assert f'href="http://localhost:{demo.portal}"' in text
    user, password = re.findall(r"<code>(.*?)</code>", text[text.index('id="portal"') :])[:2]
    visitor = Visitor(demo.portal)
    visitor.log_in(user, password)
    machines = until(lambda: visitor.ask("GET", "/api/machines")["machines"], "the machines are there")
    assert len(machines) == 12 and {"web-01", "old-erp"} <= {machine["name"] for machine in machines}
    link = visitor.ask("POST", "/api/consoles", vm="web-01")["url"]
    with RfbClient(demo.portal) as console:
        origin = f"http://localhost:{demo.portal}"
        fields = [("Origin", origin), ("Cookie", visitor.cookie)]
        console.open(link.removeprefix(origin), ["binary"], fields, f"localhost:{demo.portal}")
        assert console.start_rfb()[2] == "web-01"


def test_a_ticket_of_the_vcenter_names_the_proxy(demo: Demo) -> None:
    """pyVmomi asks for the ticket through the proxy, and its console opens there."""
    connect, vim = pytest.importorskip("pyVim.connect"), pytest.importorskip("pyVmomi").vim
    context = ssl.create_default_context(cafile=str(demo.folder / "var/demo/listener.crt"))
    login = {"user": "administrator@vsphere.local", "pwd": "simulated", "sslContext": context}
    service = connect.SmartConnect(host="localhost", port=demo.vcenter, **login)
    content = service.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], recursive=True)
    (machine,) = [each for each in view.view if each.name == "mail"]
    ticket = machine.AcquireTicket("webmks")
    connect.Disconnect(service)
    assert (ticket.host, ticket.port) == ("localhost", demo.vcenter)
    with RfbClient(demo.vcenter, tls=True) as console:
        console.open(urllib.parse.urlsplit(ticket.url).path, ["binary"])
        assert console.start_rfb()[2] == "mail"


def test_the_html_console_of_the_vcenter_passes_the_proxy(demo: Demo, chromium: Chromium) -> None:
    """Its pages get their own name in Host and Origin, and the log has none of its tickets."""
    site = f"https://localhost:{demo.vcenter}/ui"
    page = chromium.open(f"{site}/")
    until(lambda: "Login first" in (page.evaluate("document.body?.innerText") or ""), "a login is needed")
    page.call("Page.navigate", url=f"{site}/login")
    until(lambda: page.evaluate("document.forms.length") == 1, "the form is there")
    login = {"user": "administrator@vsphere.local", "password": "simulated"}
    for name, value in login.items():
        page.evaluate(f"document.forms[0].{name}.value = {value!r}")
    page.evaluate("document.forms[0].submit()")
    href = until(
        lambda: page.evaluate("[...document.links].find(each => each.text === 'web-02')?.href"), "the list"
    )
    assert f"{site}/webconsole.html?" in href
    page.call("Page.navigate", url=href)
    until(lambda: page.evaluate("document.title") == "web-02", "the console is open")
    for letter in WORD:
        page.press(letter)
    wanted = [cut(written(WORD), TEXT)]

    def typed() -> bool:
        url = page.evaluate("document.querySelector('canvas').toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            return equal(wanted, [cut(picture.convert("RGB"), TEXT)])

    until(typed, "what was typed is in the picture")
    page.close()
    until(lambda: "/ui/webconsole/authd?mksTicket=***" in demo.log(), "the console has its line")
    assert "sessionTicket=***" in demo.log() and "cst-" not in demo.log()


def marked(picture: Image.Image) -> bool:
    """Return whether the mark is at its place, within the rounding of the scale."""
    x, y = round(picture.width * 0.9), round(picture.height * 0.35)
    colours = picture.crop((x - 2, y - 2, x + 3, y + 3)).getcolors() or []
    return any(colour == PALETTE[MARK] and count >= 5 for count, colour in colours)


def test_without_a_viewer_the_page_names_the_package(tmp_path: Path) -> None:
    """The demo starts without noVNC as well."""
    with (
        Demo(tmp_path) as running,
        urllib.request.urlopen(f"http://127.0.0.1:{running.page}/", timeout=10) as answer,
    ):
        page = answer.read().decode()
    assert "esxiproxy.portal.viewer_library" in page and "apt-get install novnc" in page

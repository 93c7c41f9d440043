"""The demo as `make run` starts it: a page with a live console through each of the three listeners."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from esxiproxy.sim.screen.screen import MARK, PALETTE, Screen
from tests.support.browser import Chromium, Page
from tests.support.programs import ROOT, Program, accepts, free_ports, need, until
from tests.support.rfb_client import RfbClient

BIN = Path(sys.executable).parent
WORD = "console"
CLOCK = (0.0, 40 / 400, 1.0, 96 / 400)
"""Where on the screen the clock is, as parts of its width and height."""
TEXT = (0.0, 152 / 400, 1.0, 1.0)
"""And where the typed text is."""
Box = tuple[float, float, float, float]


class Demo(Program):
    """`conf/demo.ini` on free ports, in a folder of its own, its certificates made as `make run` does."""

    name = "demo"

    def __init__(self, viewer: Path) -> None:
        super().__init__()
        shutil.copytree(ROOT / "conf", self.folder / "conf")
        path = self.folder / "conf" / "demo.ini"
        text = path.read_text()
        old = sorted(set(re.findall(r"(?:127\.0\.0\.1|localhost):(\d+)", text)))
        self.page, *new = free_ports(len(old) + 1)
        moved = {before: str(after) for before, after in zip(old, new, strict=True)}
        path.write_text(re.sub(r"(?<=0\.1:|ost:)\d+", lambda found: moved[found[0]], text))
        self.portal = int(moved["8084"])
        self._ports = new
        self._environment = {"ESXIPROXY_DEMO_PORT": str(self.page), "ESXIPROXY_NOVNC": str(viewer)}

    def start(self, seconds: float = 20.0) -> Demo:
        certificates = [f"var/demo/{name}.crt" for name in ("listener", "host", "vcenter")]
        subprocess.run(
            [BIN / "esxiproxy", "certificate", *certificates], cwd=self.folder, check=True, timeout=30
        )
        password = self.folder / "var/demo/vcenter.password"
        password.touch(0o600)
        password.write_text("simulated\n")
        with pytest.MonkeyPatch.context() as patch:
            for key, value in self._environment.items():
                patch.setenv(key, value)
            return super().start(seconds)

    def command(self) -> Sequence[str | Path]:
        return [BIN / "twistd", "-n", "--pidfile=", "esxiproxy", "--config", "conf/demo.ini"]

    def is_ready(self) -> bool:
        return "the demo is ready" in self.log() and all(map(accepts, [self.page, *self._ports]))


def debian() -> Path:
    """noVNC as Debian has it."""
    folder = Path("/usr/share/novnc")
    if not (folder / "core" / "rfb.js").exists():
        need("/usr/share/novnc/core/rfb.js", "novnc")
    return folder


def npm() -> Path:
    """noVNC as the npm registry has it, fetched once, where `make run` would look for it."""
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
    """The page, its three consoles open."""
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
    """What the page says of each console."""
    said: list[str] = page.evaluate("[...document.querySelectorAll('.state')].map(e => e.textContent)")
    return said


def shot(page: Page) -> Image.Image:
    """What is to be seen in the window."""
    taken = page.call("Page.captureScreenshot", format="png")
    with Image.open(io.BytesIO(base64.b64decode(taken["data"]))) as picture:
        return picture.convert("RGB")


def boxes(page: Page) -> list[Box]:
    """Left, top, width and height of each console's picture in the window."""
    found: list[Box] = page.evaluate(
        "[...document.querySelectorAll('.screen canvas')].map(c => c.getBoundingClientRect())"
        ".map(b => [b.x, b.y, b.width, b.height])"
    )
    return found


def painted(page: Page, part: Box) -> list[Image.Image]:
    """This part of each console's screen as the browser paints it."""
    window = shot(page)
    pictures = []
    for left, top, width, height in boxes(page):
        x, y, right, bottom = part
        box = (left + x * width, top + y * height, left + right * width, top + bottom * height)
        assert box[2] <= window.width and box[3] <= window.height, "the console is not in the window"
        pictures.append(window.crop(tuple(map(round, box))))
    return pictures


def pixels(page: Page) -> list[Image.Image]:
    """Each console's picture as noVNC has it, before it is scaled to the window."""
    urls = page.evaluate(
        "[...document.querySelectorAll('.screen canvas')].map(c => c.toDataURL('image/png'))"
    )
    pictures = []
    for url in urls:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures


def drawn(picture: Image.Image) -> bool:
    """Whether there is more than one colour in it."""
    return len(picture.getcolors(1 << 16) or []) > 1


def differ(before: list[Image.Image], after: list[Image.Image]) -> bool:
    """Whether each picture has changed."""
    pairs = zip(before, after, strict=True)
    return all(ImageChops.difference(one, other).getbbox() is not None for one, other in pairs)


def equal(wanted: list[Image.Image], seen: list[Image.Image]) -> bool:
    """Whether each picture is as it should be, to the last pixel."""
    pairs = zip(wanted, seen, strict=True)
    return all(ImageChops.difference(one, other).getbbox() is None for one, other in pairs)


def written(word: str) -> Image.Image:
    """The machine's screen with this word on it."""
    screen = Screen()
    for letter in word:
        screen.key(ord(letter))
    octets = b"".join(bytes(PALETTE[index]) for index in screen.read(screen.bounds))
    return Image.frombytes("RGB", (screen.width, screen.height), octets)


def cut(picture: Image.Image, part: Box) -> Image.Image:
    """This part of a whole screen."""
    return picture.crop(
        tuple(round(side * (picture.width, picture.height)[place % 2]) for place, side in enumerate(part))
    )


def test_each_console_shows_a_moving_clock(page: Page) -> None:
    """All three pictures go on by themselves."""
    before = painted(page, CLOCK)
    assert len(before) == 3
    until(lambda: differ(before, painted(page, CLOCK)), "three clocks have moved", 10)


def test_a_typed_word_appears_in_every_console(page: Page) -> None:
    """They are consoles of one machine: what is typed into the first one is to be read in all of them."""
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
    """With the user and the password that the page says: a list of machines, and a console by name."""
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


class Visitor:
    """A client of the portal that keeps its cookie as a browser does for localhost."""

    def __init__(self, port: int) -> None:
        self.cookie = ""
        self._port = port

    def _request(self, method: str, path: str, body: str | None, kind: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost", self._port, timeout=10)
        with contextlib.closing(connection):
            origin = f"http://localhost:{self._port}"
            fields = {"Cookie": self.cookie, "Origin": origin, "Content-Type": kind}
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            for value in answer.headers.get_all("Set-Cookie") or ():
                name, _, rest = value.partition(";")[0].partition("=")
                if rest:
                    self.cookie = f"{name}={rest}"
            return answer.status, answer.read().decode()

    def log_in(self, name: str, password: str) -> None:
        """Fill the form in and send it."""
        _, form = self._request("GET", "/login", None, "")
        token = re.findall(r'name="token" value="(.*?)"', form)[0]
        body = urllib.parse.urlencode({"name": name, "password": password, "token": token, "next": "/"})
        assert self._request("POST", "/login", body, "application/x-www-form-urlencoded")[0] == 303

    def ask(self, method: str, path: str, **body: str) -> Any:
        """Call the API."""
        status, text = self._request(method, path, json.dumps(body) if body else None, "application/json")
        assert status < 300, text
        return json.loads(text)


def marked(picture: Image.Image) -> bool:
    """Whether the mark is where it was put, give or take the rounding of the scale."""
    x, y = round(picture.width * 0.9), round(picture.height * 0.35)
    colours = picture.crop((x - 2, y - 2, x + 3, y + 3)).getcolors() or []
    return any(colour == PALETTE[MARK] and count >= 5 for count, colour in colours)


def test_without_a_viewer_the_page_names_the_package(tmp_path: Path) -> None:
    """The demo starts all the same."""
    with (
        Demo(tmp_path) as running,
        urllib.request.urlopen(f"http://127.0.0.1:{running.page}/", timeout=10) as answer,
    ):
        page = answer.read().decode()
    assert "npm install" in page and "apt-get install novnc" in page

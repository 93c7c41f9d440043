"""A real console: QEMU behind the three listeners, noVNC in Chromium in front of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.support.browser import Chromium, Page, pages
from tests.support.certificates import Authority, Certificate, qemu_folder
from tests.support.listeners import KINDS, PROXIES, Listeners, Upstreams
from tests.support.programs import Qemu, dead_port, need, until

NOVNC = Path("/usr/share/novnc")


@pytest.fixture(scope="module")
def machines(
    authority: Authority, upstream_certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Qemu]]:
    """Run two simulated machines: one console without TLS and one with TLS."""
    folder = qemu_folder(tmp_path_factory.mktemp("qemu"), authority, upstream_certificate)
    with Qemu() as plain, Qemu(tls=folder) as secure:
        yield {"plain": plain, "secure": secure}


@pytest.fixture(
    scope="module",
    params=[pytest.param("nginx", id="harness-check-with-nginx"), pytest.param("esxiproxy", id="esxiproxy")],
)
def three_listeners(
    request: pytest.FixtureRequest,
    machines: dict[str, Qemu],
    upstream_certificate: Certificate,
    listener_certificate: Certificate,
) -> Iterator[Listeners]:
    """Run the listeners in front of the machines. Those of nginx show that the test itself is right."""
    plain, secure = machines["plain"].port, machines["secure"].port
    with dead_port() as nobody:
        upstreams = Upstreams(plain, secure, upstream_certificate, nobody)
        with PROXIES[request.param](upstreams, listener_certificate) as listeners:
            yield listeners


@pytest.fixture(scope="module")
def novnc(listener_certificate: Certificate) -> Iterator[dict[str, str]]:
    """Serve Debian's noVNC over HTTP and over HTTPS, whose page uses wss."""
    if not (NOVNC / "vnc_lite.html").exists():
        need("/usr/share/novnc/vnc_lite.html", "novnc")
    with pages(NOVNC) as plain, pages(NOVNC, listener_certificate.server_context()) as secure:
        yield {
            "ws": f"http://127.0.0.1:{plain}/vnc_lite.html",
            "wss": f"https://127.0.0.1:{secure}/vnc_lite.html",
        }


def equals(page: Page, machine: Qemu, folder: Path) -> Image.Image:
    """Wait until the picture in the browser equals that of the machine in every pixel."""
    wanted = machine.screendump()
    seen: list[Image.Image] = []

    def same() -> Image.Image | None:
        picture = page.canvas()
        if picture is None:
            return None
        seen.append(picture)
        equal = picture.size == wanted.size and ImageChops.difference(picture, wanted).getbbox() is None
        return picture if equal else None

    try:
        return until(same, "the browser shows the machine's picture", 20)
    except AssertionError as problem:
        wanted.save(folder / "wanted.png")
        if seen:
            seen[-1].save(folder / "seen.png")
        status = page.evaluate("document.getElementById('status')?.textContent")
        raise AssertionError(f"{problem}; noVNC says {status!r}; see {folder}") from None


@pytest.mark.parametrize("name", KINDS)
def test_console(
    name: str,
    three_listeners: Listeners,
    machines: dict[str, Qemu],
    chromium: Chromium,
    novnc: dict[str, str],
    tmp_path: Path,
) -> None:
    """The browser shows the machine's screen pixel for pixel, and a key typed into it changes both."""
    machine = machines["plain" if name == "one" else "secure"]
    base = novnc["wss" if name == "three" else "ws"]
    page = chromium.open(f"{base}?host=127.0.0.1&port={three_listeners.ports[name]}&path=")
    try:
        before = equals(page, machine, tmp_path)
        assert len(before.getcolors(1 << 24) or []) > 1, "the machine's screen is empty"
        typed = machine.typed() or ""
        page.press("k")
        until(lambda: machine.typed() == typed + "k", "the key reaches the machine")
        after = equals(page, machine, tmp_path)
        assert ImageChops.difference(before, after).getbbox() is not None
    finally:
        page.close()

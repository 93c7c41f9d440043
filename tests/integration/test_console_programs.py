"""Consoles in programs that know nothing of the proxy: dewebsockify, vncdotool and TigerVNC."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from esxiproxy.sim.screen.screen import PALETTE, Screen
from tests.support.console_programs import Dewebsockify, Display, TigerVnc, vncdo
from tests.support.demo_program import Demo, Visitor
from tests.support.programs import until

pytest.importorskip("vncdotool")

TEXT = (0, 152, 640, 400)
"""The part of the screen with the typed text."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with Demo(Path("/nonexistent")) as running:
        yield running


def written(word: str) -> Image.Image:
    """Return the part of the machine's screen with this word on it."""
    screen = Screen()
    for letter in word:
        screen.key(ord(letter))
    octets = b"".join(bytes(PALETTE[index]) for index in screen.read(screen.bounds))
    return Image.frombytes("RGB", (screen.width, screen.height), octets).crop(TEXT)


def shows(picture: Image.Image, word: str) -> bool:
    """Return whether this word, and nothing else, is typed in a picture of the screen."""
    part = picture.convert("RGB").crop(TEXT)
    return ImageChops.difference(part, written(word)).getbbox() is None


def test_vncdotool_types_through_dewebsockify_and_a_listener_with_tls(demo: Demo, tmp_path: Path) -> None:
    """A ticket in the URL opens the console, and typed text appears in the picture."""
    with urllib.request.urlopen(f"http://localhost:{demo.page}/ticket", b"", timeout=10) as answer:
        ticket = answer.read().decode()
    with Dewebsockify(f"wss://localhost:{demo.tls}/ticket/{ticket}") as bridge:
        vncdo(bridge.port, "type", "vncdotool", "pause", "0.5", "capture", "seen.png", folder=tmp_path)
        with Image.open(tmp_path / "seen.png") as picture:
            assert shows(picture, "vncdotool")


def test_tigervnc_shows_a_machine_that_is_opened_by_name(demo: Demo, tmp_path: Path) -> None:
    """The cookie of a login opens the console, while another program types on the same machine."""
    visitor = Visitor(demo.portal)
    visitor.log_in("demo", "demo")
    until(lambda: visitor.ask("GET", "/api/machines")["machines"], "the machines are there")
    url = f"ws://localhost:{demo.portal}/vm/mail"
    with (
        Dewebsockify(url, visitor.cookie) as first,
        Dewebsockify(url, visitor.cookie) as second,
        Display(640, 400) as display,
        TigerVnc(display, first.port),
    ):
        until(lambda: shows(display.picture(), ""), "the console is on the display")
        vncdo(second.port, "type", "tigervnc", "pause", "0.2", folder=tmp_path)
        until(lambda: shows(display.picture(), "tigervnc"), "the typed text is on the display")

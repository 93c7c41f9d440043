"""The keyboard of the viewer: key events of operating systems and browsers, and the keys of the guest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from esxiproxy.portal import viewer_library
from tests.support.browser import Chromium, Page, pages
from tests.support.programs import until

PAGE = """<!DOCTYPE html><body><div id="screen" tabindex="0"></div><script type="module">
import { Keyboard, platformOf } from "./keyboard.js";
import { keyEvent, scanCode } from "./scan_codes.js";
window.tools = { keyEvent, scanCode, platformOf };
window.play = (platform, events) => {
  const screen = document.getElementById("screen");
  const sent = [];
  const passed = [];
  window.left = 0;
  const send = (scan, isDown) => sent.push(isDown ? scan : -scan);
  const keyboard = new Keyboard(screen, send, platform, () => (window.left += 1));
  const note = (event) => passed.push(event.code);
  screen.addEventListener("keydown", note);
  for (const [type, code, more] of events) {
    if (type === "blur") window.dispatchEvent(new Event("blur"));
    else if (type === "press") keyboard.press(code);
    else if (!type.startsWith("key")) screen.dispatchEvent(new Event(type, { bubbles: true }));
    else screen.dispatchEvent(new KeyboardEvent(type, { code, bubbles: true, cancelable: true, ...more }));
  }
  return new Promise((resolve) => setTimeout(() => {
    keyboard.stop();
    screen.removeEventListener("keydown", note);
    resolve([sent, passed]);
  }, 150));
};
</script>"""
OTHER: dict[str, bool] = {"isWindows": False, "isMac": False}
WINDOWS = OTHER | {"isWindows": True}
MAC = OTHER | {"isMac": True}
A, B, CTRL, ALT, ALT_GR, SHIFT, RIGHT_SHIFT, CAPS, META, DELETE = (
    *(0x1E, 0x30, 0x1D, 0x38, 0x138, 0x2A, 0x36, 0x3A, 0x15B, 0x153),
)
Event = tuple[Any, ...]


def down(code: str, **more: object) -> Event:
    return ("keydown", code, more)


def up(code: str, **more: object) -> Event:
    return ("keyup", code, more)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("keyboard")
    for name in ("keyboard.js", "scan_codes.js"):
        shutil.copy(viewer_library.FOLDER.parent / name, folder)
    (folder / "index.html").write_text(PAGE)
    with Chromium() as chromium, pages(folder) as port:
        opened = chromium.open(f"http://127.0.0.1:{port}/index.html")
        until(lambda: opened.evaluate("typeof window.play === 'function'"), "the page is ready")
        yield opened
        opened.close()


@pytest.mark.parametrize(
    ("platform", "events", "sent"),
    [
        (OTHER, [down("KeyA"), down("KeyA", repeat=True), up("KeyA")], [A, A, -A]),
        (
            OTHER,
            [down("ControlLeft"), down("AltLeft"), up("AltLeft"), up("ControlLeft")],
            [CTRL, ALT, -ALT, -CTRL],
        ),
        (OTHER, [("press", ["ControlLeft", "AltLeft", "Delete"])], [CTRL, ALT, DELETE, -DELETE, -ALT, -CTRL]),
        (OTHER, [down("ShiftLeft"), down("KeyA"), ("blur",)], [SHIFT, A, -SHIFT, -A]),
        (OTHER, [up("KeyA")], []),
        (
            WINDOWS,
            [down("ControlLeft"), down("AltRight"), up("ControlLeft"), up("AltRight")],
            [ALT_GR, -ALT_GR],
        ),
        (WINDOWS, [down("ControlLeft"), down("KeyA"), up("KeyA"), up("ControlLeft")], [CTRL, A, -A, -CTRL]),
        (WINDOWS, [down("ControlLeft"), up("ControlLeft")], [CTRL, -CTRL]),
        (WINDOWS, [down("ControlLeft")], [CTRL, -CTRL]),
        (
            WINDOWS,
            [down("ShiftLeft"), down("ShiftRight"), up("ShiftLeft")],
            [SHIFT, RIGHT_SHIFT, -SHIFT, -RIGHT_SHIFT],
        ),
        (
            MAC,
            [down("MetaLeft", metaKey=True), down("KeyB", metaKey=True), up("MetaLeft")],
            [META, B, -B, -META],
        ),
        (MAC, [down("CapsLock")], [CAPS, -CAPS]),
    ],
    ids=[
        *("repeat", "modifiers", "menu", "blur", "unknown release"),
        *("AltGr", "Ctrl+A", "Ctrl alone", "Ctrl is held", "both Shift keys", "Command", "Caps Lock"),
    ],
)
def test_the_guest_gets_the_keys_that_were_pressed(
    page: Page, platform: dict[str, bool], events: Sequence[Event], sent: list[int]
) -> None:
    """Every key that was pressed is released in the end."""
    assert page.evaluate(f"play({json.dumps(platform)}, {json.dumps(events)})") == [sent, []]


CTRL_ALT = [down("ControlLeft"), down("AltLeft"), up("ControlLeft"), up("AltLeft")]


@pytest.mark.parametrize("platform", [OTHER, WINDOWS, MAC], ids=["other", "Windows", "macOS"])
@pytest.mark.parametrize(
    ("events", "left"),
    [
        (CTRL_ALT, 1),
        ([down("AltLeft"), down("ControlLeft"), down("ControlLeft", repeat=True), *CTRL_ALT[2:]], 1),
        ([*CTRL_ALT, *CTRL_ALT], 2),
        ([*CTRL_ALT[:2], down("Delete"), up("Delete"), *CTRL_ALT[2:]], 0),
        ([*CTRL_ALT[:2], down("Delete"), *CTRL_ALT[2:], up("Delete")], 0),
        ([down("ControlLeft"), up("ControlLeft"), down("AltLeft"), up("AltLeft")], 0),
        ([*CTRL_ALT[:3], down("ControlLeft"), up("ControlLeft"), up("AltLeft")], 0),
        ([down("ControlLeft"), down("AltRight"), up("ControlLeft"), up("AltRight")], 0),
        ([*CTRL_ALT[:2], ("blur",), *CTRL_ALT[2:]], 0),
        ([*CTRL_ALT[:2], ("pointerdown",), *CTRL_ALT[2:]], 0),
        ([*CTRL_ALT[:3], ("wheel",), CTRL_ALT[3]], 0),
        ([("pointerdown",), *CTRL_ALT], 1),
    ],
    ids=[
        *("alone", "Alt first", "twice", "Delete", "Delete held", "one by one", "again", "AltGr", "blur"),
        *("click in the guest", "wheel", "click before"),
    ],
)
def test_ctrl_and_alt_alone_leave_the_screen(
    page: Page, platform: dict[str, bool], events: Sequence[Event], left: int
) -> None:
    """All other keys are the guest's, so this is the way out for those who have no mouse."""
    sent, _ = page.evaluate(f"play({json.dumps(platform)}, {json.dumps(events)})")
    assert page.evaluate("left") == left
    assert {each for each in sent if each > 0} == {-each for each in sent if each < 0}, "none stays pressed"


def test_keys_without_a_scan_code_are_left_to_novnc(page: Page) -> None:
    events = [down("", key="ä"), down("Unidentified", key="x")]
    assert page.evaluate(f"play({json.dumps(OTHER)}, {json.dumps(events)})") == [[], ["", "Unidentified"]]


def test_the_codes_of_set_1_and_the_message(page: Page) -> None:
    codes = {
        "Escape": 1,
        "Equal": 0x0D,
        "Enter": 0x1C,
        "Backslash": 0x2B,
        "Slash": 0x35,
        "F10": 0x44,
        "F12": 0x58,
    }
    codes |= {
        "Numpad0": 0x52,
        "NumpadEnter": 0x11C,
        "ArrowLeft": 0x14B,
        "Delete": 0x153,
        "IntlBackslash": 0x56,
    }
    for code, scan in codes.items():
        assert page.evaluate(f"tools.scanCode({json.dumps(code)})") == scan, code
    assert page.evaluate("tools.scanCode('toString')") is None
    assert page.evaluate("[...tools.keyEvent(0x153, true)]") == [127, 0, 0, 8, 1, 0x53, 1, 0]
    assert page.evaluate("tools.platformOf('Win32').isWindows && tools.platformOf('MacIntel').isMac")

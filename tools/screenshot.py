"""Make `docs/demo.png`, the README's picture of the demo page: ``python tools/screenshot.py``.

The script starts the demo of ``conf/demo.ini``, opens its page in Chromium, types a few words into a
console and takes the picture.  It needs Chromium, noVNC and the ports of the demo.  Run ``make run`` once
before: it makes the certificates and the file with a password.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "demo.png"
PAGE = "http://localhost:8000/"
SIZE = "1200,700"
CLIP = {"x": 0, "y": 0, "width": 1200, "height": 470, "scale": 1}
DRAWING_TIME = 5.0
"""Seconds that the consoles get to show their screens."""
TYPED = "hello from the README"
FIRST_CONSOLE = (200, 370)
"""A point of the page within the first console."""
DEMO = ("-n", "--pidfile=", "esxiproxy", "--config", "conf/demo.ini")
CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The demo's listener signs its own certificate.
    "--ignore-certificate-errors",
)


def main() -> None:
    """Start the demo, take the picture and stop the demo."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium was not found: apt-get install chromium")
    twistd = Path(sys.executable).parent / "twistd"
    demo = subprocess.Popen([twistd, *DEMO], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        if not any("the demo is ready" in line for line in demo.stdout):
            sys.exit("the demo did not start: run `make run` to see why")
        _take(browser)
    finally:
        demo.terminate()
        demo.wait(timeout=60)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def _take(browser: str) -> None:
    """Let the browser draw the page, type into the first console and write the picture."""
    commands, answers = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory() as profile:
        where = (f"--user-data-dir={profile}", f"--window-size={SIZE}", "--remote-debugging-pipe")
        # The browser reads commands from descriptor 3 and writes answers to descriptor 4.
        redirected = f'exec "$0" "$@" 3<&{commands[0]} 4>&{answers[1]}'
        running = subprocess.Popen(
            ["/bin/bash", "-c", redirected, browser, *CHROMIUM, *where, "about:blank"],
            env={**os.environ, "HOME": profile},
            pass_fds=(commands[0], answers[1]),
            stderr=subprocess.DEVNULL,
        )
        try:
            _draw(DevTools(commands[1], answers[0]))
        finally:
            running.terminate()
            running.wait(timeout=30)


def _draw(tools: DevTools) -> None:
    target = tools.call("Target.createTarget", url=PAGE)["targetId"]
    tools.session = tools.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    time.sleep(DRAWING_TIME)
    x, y = FIRST_CONSOLE
    for kind in ("mousePressed", "mouseReleased"):
        tools.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    for letter in TYPED:
        for kind in ("keyDown", "keyUp"):
            text = {"text": letter} if kind == "keyDown" else {}
            tools.call("Input.dispatchKeyEvent", type=kind, key=letter, **text)
    time.sleep(DRAWING_TIME)
    PICTURE.write_bytes(
        base64.b64decode(tools.call("Page.captureScreenshot", format="png", clip=CLIP)["data"])
    )


class DevTools:
    """The DevTools protocol over two pipes, each message ending with a NUL byte."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")
        self._calls = 0
        self.session: str | None = None
        """The page that calls are meant for; None for the browser itself."""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._calls:
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> bytes:
        message = bytearray()
        while (octet := self._answers.read(1)) != b"\0":
            if not octet:
                sys.exit("the browser exited before the picture was taken")
            message += octet
        return bytes(message)


if __name__ == "__main__":
    main()

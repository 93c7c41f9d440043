"""A headless Chromium, driven over the DevTools protocol, and the web server that its pages come from."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.programs import Program, need
from tests.support.websocket import TEXT
from tests.support.websocket_peers import Client

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --ignore-certificate-errors "
    "--window-size=1024,768 --force-device-scale-factor=1 --remote-debugging-port=0"
)


class Chromium(Program):
    """A headless Chromium with a profile of its own."""

    name = "chromium"
    ours = False

    def __init__(self) -> None:
        self._path = need("chromium", "chromium")
        super().__init__()
        self._profile = self.folder / "profile"
        self._address = self._profile / "DevToolsActivePort"
        self._port = ""

    def command(self) -> Sequence[str | Path]:
        return [self._path, *FLAGS.split(), f"--user-data-dir={self._profile}", "about:blank"]

    def is_ready(self) -> bool:
        text = self._address.read_text() if self._address.exists() else ""
        self._port = text.partition("\n")[0]
        return self._port.isdecimal()

    def open(self, url: str) -> Page:
        """Open a new page, and begin to load this URL."""
        port = int(self._port)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=60) as answer:
            target = json.load(answer)["webSocketDebuggerUrl"].partition(f":{port}")[2]
        page = Page(port, target)
        page.call("Page.navigate", url=url)
        return page


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowUp": 38, "ArrowDown": 40}
"""Keys without a letter, and their codes."""


class Page:
    """One page of the browser.  `events` has what the browser has sent before the last answer."""

    def __init__(self, port: int, target: str) -> None:
        self._client = Client(port, timeout=60)
        self._client.open(target, host="localhost")
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command of the DevTools protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._client.send_frame(TEXT, json.dumps(message).encode())
        while True:
            answer = json.loads(self._client.recv_frame().payload)
            if "method" in answer:
                self.events.append(answer)
            if answer.get("id") == self._number:
                assert "result" in answer, f"{method}: {answer}"
                result: dict[str, Any] = answer["result"]
                return result

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def canvas(self) -> Image.Image | None:
        """Return the pixels of the page's canvas, or None while there is none."""
        box = self.evaluate(
            "(c => { if (!c || !c.width) return null; const b = c.getBoundingClientRect();"
            " return [b.x, b.y, b.width, b.height] })(document.querySelector('canvas'))"
        )
        if box is None:
            return None
        screenshot = self.call("Page.captureScreenshot", format="png")
        with Image.open(io.BytesIO(base64.b64decode(screenshot["data"]))) as picture:
            left, top, width, height = map(round, box)
            return picture.convert("RGB").crop((left, top, left + width, top + height))

    def press(self, key: str) -> None:
        """Press and release a letter's key on the canvas."""
        self.evaluate("document.querySelector('canvas').focus()")
        code = ord(key.upper())
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=f"Key{key.upper()}",
                text=key if kind == "keyDown" else "",
                windowsVirtualKeyCode=code,
            )

    def key(self, name: str, shift: bool = False) -> None:
        """Press and release a key that is no letter, where the focus is."""
        text = {"Enter": "\r", " ": " "}.get(name, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code="Space" if name == " " else name,
                text=text if kind == "keyDown" else "",
                modifiers=8 if shift else 0,
                windowsVirtualKeyCode=KEYS[name],
            )

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def show(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the window in CSS pixels, and the colour scheme that the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self) -> bytes:
        """Return the picture of the window, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Close the page, and with it its connections."""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Page.close")
        self._client.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def pages(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve a folder's files; yields the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)

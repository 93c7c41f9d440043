"""Programs that show consoles: os-autoinst's dewebsockify, vncdotool, and TigerVNC on a virtual display.

dewebsockify listens on TCP and opens a console over WebSocket for its client.  os-autoinst depends on
hundreds of packages and dewebsockify on Mojolicious alone: only this script is taken out of Debian's package.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.support.programs import ROOT, Program, environment, free_port, need, skip

CACHE = ROOT / ".cache" / "os-autoinst"
XWD_HEADER = struct.Struct("!25I")
"""The numbers at the beginning of a picture of a display."""


def dewebsockify() -> Path:
    """Return the script, which is fetched if it is missing."""
    script = CACHE / "usr/lib/os-autoinst/dewebsockify"
    if not script.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            # A machine may have no lists of packages, or old ones.
            if not (_apt(folder, "download", "os-autoinst") or _updated(folder)):
                skip("the package os-autoinst of Debian cannot be fetched")
            (package,) = Path(folder).glob("os-autoinst_*.deb")
            subprocess.run(["dpkg-deb", "-x", package, f"{folder}/files"], check=True, timeout=60)
            shutil.rmtree(CACHE, ignore_errors=True)
            Path(folder, "files").rename(CACHE)
    return script


def _updated(folder: str) -> bool:
    return _apt(folder, "update") and _apt(folder, "download", "os-autoinst")


def _apt(folder: str, *words: str) -> bool:
    apt = shutil.which("apt-get")
    if apt is None:
        return False
    done = subprocess.run([apt, "-q", *words], cwd=folder, capture_output=True, timeout=120, check=False)
    return done.returncode == 0


class Dewebsockify(Program):
    """dewebsockify in front of one console; it ends with its client."""

    name = "dewebsockify"
    ours = False

    def __init__(self, url: str, cookie: str = "") -> None:
        need("mojo", "libmojolicious-perl")
        self._script = dewebsockify()
        super().__init__()
        self.port = free_port()
        self._url, self._cookie = url, cookie

    def command(self) -> Sequence[str | Path]:
        options = ["--websocketurl", self._url, "--listenport", str(self.port), "--insecure"]
        return [self._script, *options, *(["--cookie", self._cookie] if self._cookie else [])]

    def is_ready(self) -> bool:
        """Return whether the program listens. It accepts one client only, so no connection is made."""
        port = f":{self.port:04X} "
        return any(port in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines())


def vncdo(port: int, *actions: str, folder: Path) -> None:
    """Run vncdotool with these actions; it is connected to a port of this machine."""
    program = "import sys; from vncdotool.command import vncdo; sys.exit(vncdo())"
    subprocess.run(
        [sys.executable, "-c", program, "-s", f"127.0.0.1::{port}", *actions],
        env=environment(),
        cwd=folder,
        check=True,
        timeout=60,
    )


class Display(Program):
    """An X display without hardware, whose picture can be read."""

    name = "xvfb"
    ours = False

    def __init__(self, width: int, height: int) -> None:
        self._path = need("Xvfb", "xvfb")
        super().__init__()
        self._size = f"{width}x{height}x24"
        self.number = ""

    def command(self) -> Sequence[str | Path]:
        screen = ["-screen", "0", self._size, "-fbdir", self.folder]
        return [self._path, "-displayfd", "1", "-nolisten", "tcp", *screen]

    def is_ready(self) -> bool:
        found = re.search(r"^(\d+)$", self.log(), re.M)
        self.number = found[1] if found else ""
        return bool(found)

    def picture(self) -> Image.Image:
        """Return the picture that the display shows now."""
        octets = (self.folder / "Xvfb_screen0").read_bytes()
        header = XWD_HEADER.unpack_from(octets)
        start, width, height, row, colours = header[0], header[4], header[5], header[12], header[19]
        start += colours * 12
        return Image.frombytes("RGB", (width, height), octets[start:], "raw", "BGRX", row)


class TigerVnc(Program):
    """TigerVNC's viewer in the whole of a display, connected to a port of this machine."""

    name = "tigervnc"
    ours = False

    def __init__(self, display: Display, port: int) -> None:
        self._path = need("xtigervncviewer", "tigervnc-viewer")
        super().__init__()
        self._display, self._port = display, port

    def command(self) -> Sequence[str | Path]:
        options = ["-FullScreen=1", "-RemoteResize=0", "-Shared=1", "-NoJPEG=1", "-ReconnectOnError=0"]
        display = ["env", f"DISPLAY=:{self._display.number}", f"HOME={self.folder}"]
        return [*display, self._path, *options, f"127.0.0.1::{self._port}"]

    def is_ready(self) -> bool:
        return "Connected to host" in self.log() or "connected to" in self.log().lower()

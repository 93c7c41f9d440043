"""The proxy as a daemon and under reloads, and what these tests need of the system."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.programs import Proxy, until

TWISTD = Path(sys.executable).parent / "twistd"
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root gives its rights away")


class Reloaded(Proxy):
    """esxiproxy in the foreground; `reload` gives it another configuration."""

    def reload(self, text: str | None = None, well: bool = True) -> None:
        """Send SIGHUP, with this file in place of the old one, and wait for what comes of it."""
        if text is not None:
            self.path.write_text(text)
        before = len(self._outcomes())
        os.kill(self.pid, signal.SIGHUP)
        until(lambda: len(self._outcomes()) > before, "the reload is done")
        assert self._outcomes()[-1] == ("is in force" if well else "everything stays as it was"), self.log()

    def _outcomes(self) -> list[str]:
        return re.findall(r"reload: .*(is in force|everything stays as it was)$", self.log(), re.MULTILINE)


class Daemon(Proxy):
    """esxiproxy as a daemon: the started process ends at once, and its child continues."""

    def __init__(self, text: str, *options: str) -> None:
        super().__init__(text)
        self.folder.chmod(0o777)  # so that the user nobody may remove the pidfile
        self._options = options
        self._pidfile = self.folder / "run.pid"
        self._written = self.folder / "run.log"

    def command(self) -> Sequence[str | Path]:
        files = [f"--pidfile={self._pidfile}", f"--logfile={self._written}"]
        return [TWISTD, *self._options, *files, "esxiproxy", "--config", "proxy.ini"]

    @property
    def daemon(self) -> int:
        """The daemon's own process."""
        return int(self._pidfile.read_text())

    def _ready_or_dead(self) -> bool:
        assert self._process is not None
        if self._process.poll() not in (None, 0):
            raise AssertionError(f"twistd ended with status {self._process.returncode}")
        return self._process.poll() == 0 and self._pidfile.exists() and self.is_ready()

    def stop(self, seconds: float = 10.0) -> int:
        if self._pidfile.exists():
            daemon = self.daemon
            os.kill(daemon, signal.SIGTERM)
            until(lambda: not runs(daemon), "the daemon ends", seconds)
        return super().stop(seconds)

    def log(self) -> str:
        written = self._written.read_text(errors="replace") if self._written.exists() else ""
        return super().log() + written


def runs(pid: int) -> bool:
    """Return whether this process runs and is no zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def privileged_port() -> int:
    """Return a free port below 1024 on 127.0.0.1."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.skip("no privileged port is free")

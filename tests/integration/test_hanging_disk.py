"""The disk of both logs hangs: consoles open, relay and close, and the lines follow when it continues."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Service

from esxiproxy.ops.logs.file_sink import FileSink, RotatedFile
from tests.support import config
from tests.support.probe import Offering
from tests.support.programs import TICKET, until
from tests.support.scripts import echo
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream

HANGS = "hangs"
"""While this file is there, a write to a log does not come back."""


class Hanging(Service):
    """A plugin in the proxy's process that lets the logs' disk hang."""

    def __init__(self, config: Any, reactor: Any) -> None:
        hangs = config.source.absolute().parent / HANGS
        self._slow(FileSink, hangs)
        self._slow(RotatedFile, hangs)

    def _slow(self, kind: Any, hangs: Path) -> None:
        write = kind.write

        def slow(file: Any, octets: bytes) -> int:
            while hangs.exists():
                time.sleep(0.01)
            return int(write(file, octets))

        kind.write = slow


class Logged(Offering):
    """A proxy whose own log is written to a file."""

    plugins = {"esxiproxy.services": {"hanging": "tests.integration.test_hanging_disk:Hanging"}}

    def command(self) -> Sequence[str | Path]:
        *command, config, path = super().command()
        at = command.index("-n")
        return [*command[:at], f"--logfile={self.folder}/own.log", *command[at:], config, path]

    def log(self) -> str:
        """Return all log lines, the files before a rotation first."""
        files = sorted(self.folder.glob("own.log*"), reverse=True)
        return super().log() + "".join(file.read_text(errors="replace") for file in files)


@pytest.fixture
def proxy() -> Iterator[Logged]:
    """Start a proxy on a disk that works."""
    with ScriptedUpstream(echo()) as upstream:
        text = config.ini(
            config.listener(), config.upstream(upstream.port), services="hanging", access_log="access.log"
        )
        with Logged(text) as proxy:
            yield proxy


def carries(proxy: Logged, count: int) -> None:
    """Open so many consoles, one after the other; each carries a message and closes."""
    for number in range(count):
        with Client(proxy.ports["one"]) as client:
            client.open(f"/ticket/{TICKET}")
            client.send_frame(BINARY, b"%d" % number)
            assert client.recv_frame().payload == b"%d" % number
            client.send_close(1000)
            client.recv_close()


def access_lines(folder: Path) -> list[int]:
    """Return the statuses in the access log, of the file before the rotation first."""
    texts = [path.read_text() for path in sorted(folder.glob("access.log*"), reverse=True)]
    return [json.loads(line)["status"] for line in "".join(texts).splitlines()]


def test_a_disk_that_hangs_keeps_no_console_waiting(proxy: Logged) -> None:
    """Every session has its lines, in its order, a rotation in between."""
    carries(proxy, 1)
    until(lambda: len(access_lines(proxy.folder)) == 1, "a line")
    (proxy.folder / HANGS).touch()
    carries(proxy, 10)
    (proxy.folder / "access.log").rename(proxy.folder / "access.log.1")
    os.kill(proxy.pid, signal.SIGUSR1)
    carries(proxy, 10)
    assert len(access_lines(proxy.folder)) == 1
    (proxy.folder / HANGS).unlink()
    until(lambda: len(access_lines(proxy.folder)) == 21, "the lines of the others")
    until(lambda: "access.log reopened" in proxy.log(), "the rotation")
    assert proxy.stop() == 0
    assert proxy.log().count("SessionLog#info] session ") == 21
    assert "lost" not in proxy.log()


def test_the_end_does_not_wait_for_a_disk_that_hangs(proxy: Logged) -> None:
    """Lines that cannot be written within their time are dropped."""
    carries(proxy, 1)
    (proxy.folder / HANGS).touch()
    carries(proxy, 3)
    assert proxy.stop() == 0
    assert len(access_lines(proxy.folder)) <= 2

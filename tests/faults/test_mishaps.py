"""Failures of the process and of the system: consoles continue while possible, and the log says so."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults import mishaps, test_signals
from tests.faults.acts import GET, TARGET
from tests.faults.steps import carries, closes, echoes, opened, sentence, text
from tests.support.crowd import children
from tests.support.probe import ProbedProxy
from tests.support.programs import Proxy, environment, need, until
from tests.support.websocket_peers import Client, ScriptedUpstream


def test_every_mishap_has_its_test() -> None:
    """Every test of this file has a row of the table as well."""
    names = {f"test_{mishap.name}" for mishap in mishaps.MISHAPS}
    elsewhere = {"test_few_descriptors", "test_no_descriptor"}  # tests/integration/test_descriptors.py
    elsewhere |= {"test_locked_state", "test_removed_state"}  # tests/integration/test_state.py
    elsewhere |= {"test_second_sigterm_with_a_locked_state"}  # the same
    assert names - elsewhere <= {*globals(), *vars(test_signals)}


# The logs


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk."""
    if os.getuid() != 0:
        pytest.skip("only root mounts a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        [need("mount", "mount"), "-t", "tmpfs", "-o", "size=64k", "none", disk],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"no disk can be mounted here: {mount.stderr.decode()}")
    yield disk
    subprocess.run([need("umount", "mount"), disk], check=True)


def fills(disk: Path) -> Path:
    """Fill a disk with a file."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    return path


def test_full_disk(upstream: ScriptedUpstream, disk: Path) -> None:
    """A console is no slower for it; a line is back as soon as there is room."""
    with ProbedProxy(text(upstream, access_log=f"{disk}/access.log")) as proxy:
        filler = fills(disk)
        running = opened(proxy)
        carries(proxy, 20)
        sentence(proxy, "access log: 1 line lost: No space left on device")
        filler.unlink()
        carries(proxy)
        lines = until(lambda: (disk / "access.log").read_text().splitlines() or None, "a line again")
        assert json.loads(lines[-1])["status"] == 101
        echoes(running)
        closes(running)
        proxy.stop()
        sentence(proxy, "lines lost: No space left on device")
        proxy.assert_clean()


class LoggedTo(ProbedProxy):
    """A proxy that writes its own log to this file."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self._own = path

    def command(self) -> Sequence[str | Path]:
        *command, config, path = super().command()
        at = command.index("-n")
        return [*command[:at], f"--logfile={self._own}", *command[at:], config, path]

    def log(self) -> str:
        return super().log() + (self._own.read_text(errors="replace") if self._own.exists() else "")


def test_full_disk_under_the_log(upstream: ScriptedUpstream, disk: Path) -> None:
    """Every session has its line or is counted, and half a line is followed by the next one on its own."""
    with LoggedTo(text(upstream), disk / "own.log") as proxy:
        filler = fills(disk)
        running = opened(proxy)
        carries(proxy, 40)
        filler.unlink()
        carries(proxy)
        told = sentence(proxy, "process log:", "lines lost: No space left on device")
        assert re.match(r"\S+ \[esxiproxy\.ops\.logs\.twistd_log#warn\] process log: \d+ lines", told)
        echoes(running)
        closes(running)
        assert proxy.stop() == 0
        whole = re.findall(r"^\S+ \[[^]]*SessionLog#info\] session .* code=1000$", proxy.log(), re.M)
        (lost,) = re.findall(r"process log: (\d+) lines lost", proxy.log())
        assert len(whole) + int(lost) == 42
        proxy.assert_clean()


def test_full_device(upstream: ScriptedUpstream) -> None:
    """A file whose writes all fail stands in for a full disk, since few users may mount one."""
    with ProbedProxy(text(upstream, access_log="/dev/full")) as proxy:
        carries(proxy, 5)
        proxy.stop()
        assert "access log: 1 line lost: No space left" in proxy.log()
        assert "access log: 4 lines lost: No space left" in proxy.log()
        proxy.assert_clean()


def test_vanished_folder(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with ProbedProxy(text(upstream, access_log=f"{folder}/access.log")) as proxy:
        running = opened(proxy)
        with (folder / "access.log").open() as log:
            shutil.rmtree(folder)
            os.kill(proxy.pid, signal.SIGUSR1)
            sentence(proxy, "cannot reopen", "No such file or directory", "writing to the old file continues")
            carries(proxy)
            echoes(running)
            closes(running)

            def lines() -> list[str] | None:
                log.seek(0)
                found = log.readlines()
                return found if len(found) == 2 else None

            until(lines, "both lines, in the old file")
        proxy.assert_clean()


def requests(proxy: Proxy, times: int) -> None:
    """Send so many requests with targets of more than 1 KB, which each log line has."""
    for _ in range(times):
        with Client(proxy.ports["one"]) as client:
            client.send_raw(GET.replace(b"/ui/", b"/ui/" + b"x" * 7000))
            client.recv_head()


class Piped(ProbedProxy):
    """A proxy with its standard output in a pipe that is not read, and its own log in a file."""

    def command(self) -> Sequence[str | Path]:
        program, *rest = super().command()
        pipe = self.folder / "pipe"
        if not pipe.exists():
            os.mkfifo(pipe)
            self.held = os.open(pipe, os.O_RDWR)
        at = rest.index("-n")
        command = [str(part) for part in (program, *rest[: at + 1], "--logfile=own.log", *rest[at + 1 :])]
        return ["sh", "-c", 'exec "$@" >pipe', "sh", *command]

    def log(self) -> str:
        own = self.folder / "own.log"
        return super().log() + (own.read_text() if own.exists() else "")


def test_stuck_reader(upstream: ScriptedUpstream) -> None:
    """A reader that continues gets whole lines. Lines that it does not get are counted."""
    with Piped(text(upstream, access_log="stdout")) as proxy:
        requests(proxy, 760)  # 64 KiB in the pipe, 1 MiB behind it, and some that have no place
        running = opened(proxy)
        echoes(running)
        sentence(proxy, "access log: 1 line lost: the reader accepts no data")
        got = bytearray()
        until(lambda: len(got_more(got, proxy.held)) > 1 << 20, "what has waited")
        closes(running)
        until(lambda: b'"console"' in got_more(got, proxy.held), "a line again")
        assert proxy.stop() == 0
        lines = [json.loads(line)["kind"] for line in got_more(got, proxy.held).splitlines()]
        lost = re.findall(r"access log: (\d+) lines? lost: the reader accepts no data", proxy.log())
        assert lines[-1] == "console" and len(lines) > 650
        assert len(lines) + sum(map(int, lost)) == 761
        proxy.assert_clean()
        os.close(proxy.held)


def got_more(got: bytearray, descriptor: int) -> bytearray:
    """Read the pipe until there are further lines."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while octets := os.read(descriptor, 1 << 20):
            got += octets
    return got


class Unread(ProbedProxy):
    """A proxy whose own log is a pipe, which is read while `is_read`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        os.mkfifo(self.folder / "pipe")
        self._held = os.open(self.folder / "pipe", os.O_RDWR)
        self._got = bytearray()
        self.is_read = True

    def command(self) -> Sequence[str | Path]:
        return ["sh", "-c", 'exec "$@" >pipe 2>&1', "sh", *map(str, super().command())]

    def log(self) -> str:
        if self.is_read:
            got_more(self._got, self._held)
        return super().log() + self._got.decode(errors="replace")

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        os.close(self._held)


def test_unread_log(upstream: ScriptedUpstream) -> None:
    """Lines that waited are whole when the pipe is read again, and the number of lost lines follows."""
    with Unread(text(upstream)) as proxy:
        proxy.is_read = False
        requests(proxy, 1400)
        running = opened(proxy)
        carries(proxy)
        echoes(running)
        proxy.is_read = True
        closes(running)
        sessions = 1402
        while not (told := re.search(r"process log: (\d+) lines lost: the reader accepts", proxy.log())):
            carries(proxy)
            sessions += 1
        assert proxy.stop() == 0
        whole = [line for line in proxy.log().splitlines() if "SessionLog#info] session" in line]
        assert all("ended by" in line for line in whole)
        assert len(whole) + int(told[1]) == sessions and int(told[1]) > 300
        assert proxy.log().endswith("Server Shut Down.\n")
        proxy.assert_clean()


def test_unread_log_at_the_end(upstream: ScriptedUpstream) -> None:
    """The process ends in time with its status."""
    with Unread(text(upstream)) as proxy:
        proxy.is_read = False
        requests(proxy, 140)
        assert proxy.stop() == 0


def test_unread_log_of_workers(upstream: ScriptedUpstream) -> None:
    """The master continues to watch: a killed worker is recorded and replaced."""
    with Unread(text(upstream, workers=2, drain_timeout="1s", access_log=None)) as proxy:
        sentence(proxy, "all workers are ready")
        proxy.is_read = False
        requests(proxy, 1400)
        before = children(proxy.pid)
        os.kill(before[0], signal.SIGKILL)

        def replaced() -> bool:
            now = children(proxy.pid)
            return len(now) == 2 and before[0] not in now

        until(replaced, "another worker")
        carries(proxy, 5)
        assert proxy.stop() == 0


def test_sigusr1_without_a_file(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream, access_log="stdout")) as proxy:
        running = opened(proxy)
        os.kill(proxy.pid, signal.SIGUSR1)
        carries(proxy)
        echoes(running)
        closes(running)
        assert proxy.stop() == 0
        proxy.assert_clean()


def test_gone_syslog(upstream: ScriptedUpstream) -> None:
    if Path("/dev/log").exists():
        pytest.skip("there is a syslog here")
    with ProbedProxy(text(upstream, access_log="syslog")) as proxy:
        carries(proxy, 3)
        proxy.stop()
        assert "access log: 1 line lost: No such file" in proxy.log()
        assert "access log: 2 lines lost: No such file" in proxy.log()
        proxy.assert_clean()


OBSERVED = """
import sys
from twisted.internet import reactor
from zope.interface import implementer
from esxiproxy import ISessionObserver, Proxy, StaticRouter, Upstream

@implementer(ISessionObserver)
class Raises:
    def opened(self, session):
        raise RuntimeError("opened")
    def closed(self, record):
        raise RuntimeError("closed")

@implementer(ISessionObserver)
class Tells:
    def opened(self, session):
        print("opened", flush=True)
    def closed(self, record):
        print("closed", record.close_code, record.error or "no error", flush=True)

proxy = Proxy(reactor, [Raises(), Tells()])
router = StaticRouter(Upstream("esxi1", "127.0.0.1", int(sys.argv[1]), secure=False))
port = reactor.listenTCP(0, proxy.listener("one", router), interface="127.0.0.1")
print("port", port.getHost().port, flush=True)
proxy.startService()
reactor.run()
"""


def test_raising_observer(upstream: ScriptedUpstream) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OBSERVED, str(upstream.port)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as program:
        try:
            assert program.stdout is not None
            client = Client(int(program.stdout.readline().split()[1]))
            client.open(TARGET, ["binary"])
            echoes(client)
            assert program.stdout.readline() == "opened\n"
            closes(client)
            assert program.stdout.readline() == "closed 1000 no error\n"
        finally:
            program.terminate()

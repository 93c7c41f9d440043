"""What befalls the process and what it stands on: consoles go on as long as they can, and it is told of."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults import mishaps
from tests.faults.acts import GET, OPENING, TARGET
from tests.probe import ProbedProxy
from tests.programs import Proxy, accepts, need, until
from tests.wsclient import BINARY, CLOSE, Client, ScriptedUpstream, silent

TEXT = """
[proxy]
beside = probe
{keys}
close_timeout = 1s

[listener one]
listen = 127.0.0.1:0
http = forward
upstream = esxi1

[upstream esxi1]
url = ws://127.0.0.1:{port}
"""
REASON = "the proxy is shutting down"
Keys = str


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


def text(upstream: ScriptedUpstream, keys: Keys = "access_log = access.log") -> str:
    return TEXT.format(port=upstream.port, keys=keys)


def opened(proxy: Proxy) -> Client:
    """An open console."""
    client = Client(proxy.ports["one"])
    client.open(TARGET, ["binary"])
    return client


def echoes(client: Client) -> None:
    client.send_frame(BINARY, b"a key")
    assert client.recv_frame().payload == b"a key"


def closes(client: Client) -> None:
    with client:
        client.send_close(1000)
        assert client.recv_close() == (1000, "")


def carries(proxy: Proxy, times: int = 1) -> None:
    """So many consoles, one after the other."""
    for _ in range(times):
        client = opened(proxy)
        echoes(client)
        closes(client)


def clean(proxy: Proxy) -> None:
    assert "Traceback" not in proxy.log() and "Unhandled" not in proxy.log(), proxy.log()


def ended(proxy: Proxy, seconds: float = 15.0) -> None:
    """The process has ended by itself."""
    status = Path(f"/proc/{proxy.pid}/status")
    until(lambda: not status.exists() or "State:\tZ" in status.read_text(), "the process ends", seconds)


def sentence(proxy: Proxy, *words: str) -> str:
    """The first line of the log that has all of these."""
    return until(
        lambda: next(
            (line for line in proxy.log().splitlines() if all(word in line for word in words)), None
        ),
        f"a line with {words}",
    )


def test_every_mishap_has_its_test() -> None:
    """And every test its row."""
    names = {f"test_{mishap.name}" for mishap in mishaps.MISHAPS}
    elsewhere = {"test_few_descriptors", "test_no_descriptor"}  # tests/integration/test_descriptors.py
    elsewhere |= {"test_locked_state", "test_removed_state"}  # tests/integration/test_state.py
    elsewhere |= {"test_second_sigterm_with_a_locked_state"}  # the same
    assert names - elsewhere <= set(globals())


# The logs


def test_full_disk(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A console is no slower for it; a line is back as soon as there is room."""
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
    try:
        with ProbedProxy(text(upstream, f"access_log = {disk}/access.log")) as proxy:
            with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
                while filler.write(bytes(4096)):
                    pass
            running = opened(proxy)
            carries(proxy, 20)
            sentence(proxy, "access log: 1 line lost: No space left on device")
            (disk / "filler").unlink()
            carries(proxy)
            lines = until(lambda: (disk / "access.log").read_text().splitlines() or None, "a line again")
            assert json.loads(lines[-1])["status"] == 101
            echoes(running)
            closes(running)
            proxy.stop()
            sentence(proxy, "lines lost: No space left on device")
            clean(proxy)
    finally:
        subprocess.run([need("umount", "mount"), disk], check=True)


def test_full_device(upstream: ScriptedUpstream) -> None:
    """The same for whoever may not mount anything: a file of which every write fails."""
    with ProbedProxy(text(upstream, "access_log = /dev/full")) as proxy:
        carries(proxy, 5)
        proxy.stop()
        assert "access log: 1 line lost: No space left" in proxy.log()
        assert "access log: 4 lines lost: No space left" in proxy.log()
        clean(proxy)


def test_vanished_folder(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with ProbedProxy(text(upstream, f"access_log = {folder}/access.log")) as proxy:
        running = opened(proxy)
        with (folder / "access.log").open() as log:
            shutil.rmtree(folder)
            os.kill(proxy.pid, signal.SIGUSR1)
            sentence(proxy, "cannot reopen", "No such file or directory", "the old file is written to")
            carries(proxy)
            echoes(running)
            closes(running)

            def lines() -> list[str] | None:
                log.seek(0)
                found = log.readlines()
                return found if len(found) == 2 else None

            until(lines, "both lines, in the old file")
        clean(proxy)


class Piped(ProbedProxy):
    """Its standard output goes to a pipe that nobody reads, its own log to a file."""

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
    """It reads again, and gets whole lines."""
    with Piped(text(upstream, "access_log = stdout")) as proxy:
        for _ in range(70):  # 64 KiB in the pipe and 1 MiB behind it, in lines of target
            with Client(proxy.ports["one"]) as client:
                client.send_raw(b"".join([GET.replace(b"/ui/", b"/ui/" + b"x" * 7000)] * 1))
                client.recv_head()
        running = opened(proxy)
        echoes(running)
        octets = os.read(proxy.held, 1 << 20)
        assert json.loads(octets.splitlines()[0])["kind"] == "http"
        closes(running)
        clean(proxy)
        os.set_blocking(proxy.held, False)
        last = until(lambda: _drain(proxy.held) or None, "the rest comes")
        assert last.endswith(b"\n")
        os.close(proxy.held)


def _drain(descriptor: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, 1 << 20)
    return b""


def test_gone_syslog(upstream: ScriptedUpstream) -> None:
    if Path("/dev/log").exists():
        pytest.skip("there is a syslog here")
    with ProbedProxy(text(upstream, "access_log = syslog")) as proxy:
        carries(proxy, 3)
        proxy.stop()
        assert "access log: 1 line lost: No such file" in proxy.log()
        assert "access log: 2 lines lost: No such file" in proxy.log()
        clean(proxy)


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
        [sys.executable, "-c", OBSERVED, str(upstream.port)], stdout=subprocess.PIPE, text=True
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


# Signals


def test_sigterm_while_opening(upstream: ScriptedUpstream) -> None:
    upstream.script = silent
    with ProbedProxy(text(upstream, "drain_timeout = 1s\naccess_log = access.log")) as proxy:
        with Client(proxy.ports["one"]) as client:
            client.send_raw(OPENING)
            upstream.connection()
            os.kill(proxy.pid, signal.SIGTERM)
            until(lambda: not accepts(proxy.ports["one"]), "the port is closed")
            head = client.recv_head()
            assert head.status == 503 and head.one("Retry-After")
        ended(proxy)
        assert f"Draining: {REASON}" in proxy.log()
        clean(proxy)


def test_sigterm_while_open(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream, "drain_timeout = 1s\naccess_log = access.log")) as proxy:
        client = opened(proxy)
        os.kill(proxy.pid, signal.SIGTERM)
        until(lambda: not accepts(proxy.ports["one"]), "the port is closed")
        echoes(client)
        assert client.recv_close() == (1001, REASON)
        client.send_close(1001)
        client.recv_eof()
        ended(proxy)
        got = upstream.connection().frames[-1]
        assert (got.opcode, got.payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
        record = json.loads((proxy.folder / "access.log").read_text())
        assert (record["error"], record["close_code"], record["ended_by"]) == ("Draining", 1001, "proxy")
        clean(proxy)


def test_sigterm_between_requests(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda connection: (
        connection.read_request(),
        connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        connection.recv_eof(30),
    )
    with ProbedProxy(text(upstream, "drain_timeout = 1h\naccess_log = access.log")) as proxy:
        with Client(proxy.ports["one"]) as client:
            client.send_raw(GET)
            assert client.recv_head().status == 200
            os.kill(proxy.pid, signal.SIGTERM)
            client.recv_eof()
        ended(proxy)
        clean(proxy)


def test_second_sigterm(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream, "drain_timeout = 1h\naccess_log = access.log")) as proxy:
        client = opened(proxy)
        os.kill(proxy.pid, signal.SIGTERM)
        until(lambda: not accepts(proxy.ports["one"]), "the port is closed")
        echoes(client)
        os.kill(proxy.pid, signal.SIGTERM)
        client.recv_eof()
        assert upstream.connection().finished.wait(10)
        ended(proxy)
        assert proxy.stop() == 0
        record = json.loads((proxy.folder / "access.log").read_text())
        assert (record["error"], record["ended_by"]) == ("Draining", "proxy")
        clean(proxy)


def test_sighup_with_a_bad_file(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream)) as proxy:
        client = opened(proxy)
        good = proxy.path.read_text()
        proxy.path.write_text(good.replace("upstream = esxi1", "upstream = nobody\ncolour = blue"))
        os.kill(proxy.pid, signal.SIGHUP)
        sentence(proxy, "[listener one] upstream")
        sentence(proxy, "[listener one] colour")
        echoes(client)
        carries(proxy)
        closes(client)
        clean(proxy)


def test_sigkill(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream)) as proxy:
        client = opened(proxy)
        os.kill(proxy.pid, signal.SIGKILL)
        client.recv_eof()
        assert upstream.connection().finished.wait(10)
        ended(proxy)  # the kernel closes the listener last
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", proxy.ports["one"]), 1):
            pass

"""A running process reads its configuration again, and ends on a signal."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Authority, Certificate
from tests.support.processes import Daemon, Reloaded, runs
from tests.support.programs import TICKET, Proxy, accepts, free_port, free_ports, until
from tests.support.websocket import TEXT
from tests.support.websocket_peers import Client, ScriptedUpstream

TARGET = f"/ticket/{TICKET}"
BIN = Path(sys.executable).parent


def section(name: str, port: int, **keys: object) -> str:
    return config.listener(name, listen=f"127.0.0.1:{port}", **keys)


def to(upstream: ScriptedUpstream, scheme: str = "ws", **keys: object) -> str:
    return config.upstream(f"{scheme}://localhost:{upstream.port}", **keys)


def console(port: int, tls: bool | ssl.SSLContext = False) -> Client:
    client = Client(port, tls)
    client.open(TARGET, ["binary"])
    return client


def echoes(client: Client, text: bytes = b"hello") -> bool:
    client.send_frame(TEXT, text)
    return client.recv_frame().payload == text


def shown(client: Client) -> bytes | None:
    """Return the certificate that the client was shown."""
    assert isinstance(client.stream, ssl.SSLSocket)
    return client.stream.getpeercert(binary_form=True)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, listener_certificate: Certificate) -> Path:
    """Create a folder with the certificate and the key of a listener."""
    put(listener_certificate, tmp_path)
    return tmp_path


def put(certificate: Certificate, folder: Path) -> None:
    shutil.copy(certificate.path, folder / "own.crt")
    shutil.copy(certificate.key_path, folder / "own.key")


def own(folder: Path) -> dict[str, Path]:
    return {"certificate": folder / "own.crt", "private_key": folder / "own.key"}


# What a reload changes


def test_a_renewed_certificate_is_for_new_connections(
    upstream: ScriptedUpstream, folder: Path, authority: Authority, listener_certificate: Certificate
) -> None:
    """New connections get the new certificate. The open console continues under the old one."""
    port, renewed = free_port(), authority.server("renewed")
    with Reloaded(section("one", port, **own(folder)) + to(upstream)) as proxy:
        with console(port, tls=True) as running:
            assert shown(running) == listener_certificate.der
            put(renewed, folder)
            proxy.reload()
            with console(port, tls=True) as after:
                assert shown(after) == renewed.der
                assert echoes(after) and echoes(running)
        assert proxy.stop() == 0
        proxy.assert_clean()


def test_a_new_client_authority_is_for_new_connections(
    upstream: ScriptedUpstream, folder: Path, authority: Authority
) -> None:
    """Clients that connect after the reload need a certificate, and connected ones do not."""
    port = free_port()
    text = section("one", port, **own(folder)) + to(upstream)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    alice = authority.client("alice")
    with Reloaded(text) as proxy, console(port, tls=True) as running:
        proxy.reload(section("one", port, client_ca=authority.path, **own(folder)) + to(upstream))
        with pytest.raises((OSError, AssertionError)):
            console(port, tls=context)
        context.load_cert_chain(alice.path, alice.key_path)
        with console(port, tls=context) as after:
            assert echoes(after) and echoes(running)


def test_listeners_come_and_go(upstream: ScriptedUpstream) -> None:
    """A console continues when its listener is removed, and no new client is accepted there."""
    first, second = free_ports(2)
    with Reloaded(section("one", first) + to(upstream)) as proxy:
        with console(first) as running:
            proxy.reload(section("two", second) + to(upstream))
            assert not accepts(first)
            with console(second) as after:
                assert echoes(after) and echoes(running)
            proxy.reload(section("two", second) + section("one", first) + to(upstream))
            with console(first) as again:
                assert echoes(again) and echoes(running)
        assert proxy.stop() == 0
        proxy.assert_clean()


def test_another_upstream(upstream: ScriptedUpstream) -> None:
    """New consoles go to the other host, the one that runs stays where it is."""
    port = free_port()
    with (
        ScriptedUpstream() as other,
        Reloaded(section("one", port) + to(upstream)) as proxy,
        console(port) as running,
    ):
        proxy.reload(section("one", port) + to(other))
        with console(port) as after:
            assert echoes(after) and echoes(running)
        assert (len(upstream.connections), len(other.connections)) == (1, 1)


def test_another_authority_in_the_same_file(tmp_path: Path) -> None:
    """The file of an upstream's authorities is read again, though its name is as before."""
    authorities = Authority(tmp_path / "a", "a"), Authority(tmp_path / "b", "b")
    shutil.copy(authorities[0].path, tmp_path / "ca.crt")
    port, context = free_port(), authorities[1].server("esxi").server_context()
    with ScriptedUpstream(tls=context) as secure:
        text = section("one", port) + to(secure, "wss", verify="ca", ca=tmp_path / "ca.crt")
        with Reloaded(text) as proxy:
            assert Client(port).ask(TARGET, ["binary"]).status == 502
            shutil.copy(authorities[1].path, tmp_path / "ca.crt")
            proxy.reload()
            with console(port) as after:
                assert echoes(after)


def test_the_access_log_moves(upstream: ScriptedUpstream) -> None:
    """A console is written of where the log is when it ends."""
    port = free_port()
    text = section("one", port) + to(upstream)
    with Reloaded(config.ini(text, access_log="a.log")) as proxy:
        with console(port) as running:
            proxy.reload(config.ini(text, access_log="b.log"))
            running.send_close(1000)
            running.recv_close()
        until(lambda: (proxy.folder / "b.log").read_text().count("\n") == 1, "the console's line")
        assert not (proxy.folder / "a.log").read_text()
        assert proxy.stop() == 0


# What it does not


def test_a_broken_file_changes_nothing(upstream: ScriptedUpstream) -> None:
    """Each of its problems is in the log, with its line."""
    port = free_port()
    text = section("one", port) + to(upstream)
    with Reloaded(text) as proxy, console(port) as running:
        broken = section("one", port, upstream="nobody", colour="blue") + to(upstream)
        proxy.reload(broken, well=False)
        assert f"{proxy.path}:3: [listener one] upstream: " in proxy.log()
        assert f"{proxy.path}:4: [listener one] colour: " in proxy.log()
        with console(port) as after:
            assert echoes(after) and echoes(running)
        proxy.reload(text)
        assert echoes(running)
        running.close()
        assert proxy.stop() == 0
        proxy.assert_clean()


def test_an_address_in_use_changes_nothing(upstream: ScriptedUpstream) -> None:
    """The reload binds no listener then, not even the ones in front of it."""
    port, free = free_ports(2)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        Reloaded(section("one", port) + to(upstream)) as proxy,
    ):
        taken = other.getsockname()[1]
        proxy.reload(section("two", free) + section("three", taken) + to(upstream), well=False)
        assert f"reload: listener three: Couldn't listen on 127.0.0.1:{taken}" in proxy.log()
        assert not accepts(free)
        with console(port) as after:
            assert echoes(after)
        proxy.assert_clean()


def test_ten_reloads_in_a_row_refuse_no_client(upstream: ScriptedUpstream) -> None:
    """Consoles are opened all the time and echo, and the first console continues."""
    port, extra = free_ports(2)
    plain = section("one", port) + to(upstream)
    texts = [
        config.ini(section("one", port, max_frame="1MiB"), to(upstream), access_log="b.log"),
        section("two", extra) + section("first", port) + to(upstream),
    ]
    over = threading.Event()
    problems: list[Exception] = []
    opened: list[float] = []

    def connect() -> None:
        while not over.is_set():
            try:
                with console(port) as client:
                    assert echoes(client)
                    opened.append(client.timeout)
            except Exception as problem:
                problems.append(problem)

    def more(count: int) -> bool:
        return len(opened) > count or bool(problems)

    with Reloaded(plain) as proxy, console(port) as running:
        threads = [threading.Thread(target=connect) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(10):
                count = len(opened)
                proxy.reload(texts[number % 2])
                until(partial(more, count + 3), "consoles after the reload")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not problems and len(opened) > 30
        assert echoes(running)
        running.close()
        assert proxy.stop() == 0
        proxy.assert_clean()


# Who asks for it


def test_a_daemon_finds_its_file_from_another_folder(upstream: ScriptedUpstream) -> None:
    """`esxiproxy reload` has it read the file again that it was given as a relative path."""
    first, second = free_ports(2)
    with Daemon(section("one", first) + to(upstream), "--rundir=/") as proxy:
        assert Path(f"/proc/{proxy.daemon}/cwd").resolve() == Path("/")
        command = [str(BIN / "esxiproxy"), "reload", "--pidfile", "run.pid", "--config", "proxy.ini"]

        def told() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, cwd=proxy.folder, capture_output=True, text=True, timeout=30)

        with console(first) as running:
            proxy.path.write_text(section("two", second) + to(upstream))
            done = told()
            assert (done.returncode, done.stderr) == (0, "") and f"process {proxy.daemon} " in done.stdout
            until(lambda: accepts(second) and not accepts(first), "the listener has changed")
            assert echoes(running)
        proxy.path.write_text("[listener]\n")
        done = told()
        assert done.returncode == 1 and done.stderr.startswith("proxy.ini:1: ")
        assert proxy.log().count("SIGHUP") == 1
        proxy.stop()
        proxy.assert_clean()


def test_systemd_is_notified_of_reloads(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY follows every RELOADING, also after a failed reload."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(15)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def words(until_word: str) -> list[str]:
            found = []
            while until_word not in found:
                found.append(heard.recv(4096).decode().partition("=")[0])
            return found

        text = section("one", free_port()) + to(upstream)
        with Reloaded(text) as proxy:
            assert words("READY")[-1] == "READY"
            proxy.reload()
            assert words("READY")[-2:] == ["RELOADING", "READY"]
            proxy.reload("[listener]\n", well=False)
            assert words("READY")[-2:] == ["RELOADING", "READY"]
            assert proxy.stop() == 0
            assert "STOPPING" in words("STOPPING")


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_it_at_once(upstream: ScriptedUpstream, number: signal.Signals) -> None:
    """Consoles are aborted and recorded, and the process exits in order."""
    port = free_port()
    text = config.ini(section("one", port), to(upstream), drain_timeout="1h", access_log="access.log")
    with Reloaded(text) as proxy, console(port) as running, console(port) as idle:
        os.kill(proxy.pid, number)
        until(lambda: not accepts(port), "the port is closed")
        assert echoes(running) and runs(proxy.pid)
        os.kill(proxy.pid, number)
        until(lambda: not runs(proxy.pid), "the process ends", 8)
        running.recv_eof(), idle.recv_eof()
        assert proxy.stop() == 0
        assert (proxy.folder / "access.log").read_text().count("\n") == 2
        assert "Server Shut Down" in proxy.log() and "again: ending at once" in proxy.log()
        proxy.assert_clean()


def test_a_daemon_ended_at_once_takes_its_pidfile_away(upstream: ScriptedUpstream) -> None:
    port = free_port()
    with Daemon(config.ini(section("one", port), to(upstream), drain_timeout="1h")) as proxy:
        with console(port):
            daemon = proxy.daemon
            os.kill(daemon, signal.SIGTERM)
            until(lambda: not accepts(port), "the port is closed")
            os.kill(daemon, signal.SIGTERM)
            until(lambda: not runs(daemon), "the daemon ends")
        assert not (proxy.folder / "run.pid").exists()
        proxy.assert_clean()


_SIGNALLED_AT_THE_START = """
import os, signal, sys
from esxiproxy.net.listener.service import ListenerService
bind = ListenerService.privilegedStartService
def signalled(self):
    bind(self)
    for _ in range({times}):
        os.kill(os.getpid(), signal.SIGTERM)
ListenerService.privilegedStartService = signalled
sys.argv[0] = "twistd"
from twisted.scripts.twistd import run
run()
"""


class Signalled(Proxy):
    """A proxy that gets SIGTERM, once or more often, just after it has bound its listener."""

    def __init__(self, text: str, times: int) -> None:
        super().__init__(text)
        self._program = _SIGNALLED_AT_THE_START.format(times=times)

    def command(self) -> Sequence[str | Path]:
        twistd = list(super().command())[1:]
        return [sys.executable, "-c", self._program, *twistd]

    def _ready_or_dead(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_it_starts_ends_it_in_order(upstream: ScriptedUpstream, times: int) -> None:
    """The signal is kept until the reactor runs and can be stopped."""
    with Signalled(section("one", 0) + to(upstream), times) as proxy:
        assert proxy.stop() == 0
        assert "SIGTERM: shutting down" in proxy.log() and "Server Shut Down" in proxy.log()
        proxy.assert_clean()

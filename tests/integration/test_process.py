"""`twistd esxiproxy` as a process: in the foreground, as a daemon, as nobody, refused, and drained."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Authority, Certificate
from tests.support.processes import ROOT_ONLY, TWISTD, Daemon, privileged_port, runs
from tests.support.programs import TICKET, Proxy, accepts, free_port, until
from tests.support.websocket import CLOSE, TEXT
from tests.support.websocket_peers import Client, ScriptedUpstream

TARGET = f"/ticket/{TICKET}"
REASON = "the proxy is shutting down"
Text = Callable[..., str]


def carries(client: Client) -> None:
    """Open a console, echo a word and close it."""
    with client:
        client.open(TARGET, ["binary"])
        client.send_frame(TEXT, b"hello")
        assert client.recv_frame().payload == b"hello"
        client.send_close(1000, "done")
        assert client.recv_close() == (1000, "done")


def recorded(program: Proxy) -> None:
    """Check that the log has the session without its ticket, and no error."""
    until(lambda: "/ticket/*** upstream=esxi1 status=101" in program.log(), "the session's record")
    program.assert_clean()


def run(*arguments: str | Path, folder: Path, status: int) -> str:
    """Return the output of a twistd that exits with this status; it sees the installed package only."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [TWISTD, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == status, said
    return said


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def text(upstream: ScriptedUpstream) -> Text:
    """Return a configuration with one listener, which may say where it is."""

    def content(listen: str = "127.0.0.1:0", *sections: str, **proxy: str) -> str:
        return config.ini(config.listener(listen=listen), config.upstream(upstream.port), *sections, **proxy)

    return content


@pytest.fixture(scope="module")
def secure(upstream_certificate: Certificate) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(tls=upstream_certificate.server_context()) as running:
        yield running


def tls_text(secure: ScriptedUpstream, folder: Path, listen: str = "127.0.0.1:0") -> str:
    """Return a TLS listener and a TLS upstream with the files of this folder."""
    own = {"certificate": folder / "own.crt", "private_key": folder / "own.key"}
    upstream = config.upstream(f"wss://localhost:{secure.port}", verify="ca", ca=folder / "ca.crt")
    return config.listener(listen=listen, **own) + upstream


@pytest.fixture
def tls_folder(tmp_path: Path, authority: Authority, listener_certificate: Certificate) -> Path:
    """Create a private folder with the listener's certificate and key and the upstream's authority."""
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o700)
    shutil.copy(listener_certificate.path, folder / "own.crt")
    shutil.copy(listener_certificate.key_path, folder / "own.key")
    shutil.copy(authority.path, folder / "ca.crt")
    return folder


# Where it listens


def test_it_runs_in_the_foreground(text: Text) -> None:
    """With -n the process logs to the terminal, and SIGTERM ends it."""
    with Proxy(text()) as proxy:
        carries(Client(proxy.ports["one"]))
        recorded(proxy)
        assert proxy.stop() == 0
        proxy.assert_clean()
        assert "Server Shut Down" in proxy.log()


def test_an_ipv6_listener(text: Text) -> None:
    """A listener on `[::1]:0` accepts consoles."""
    with Proxy(text("[::1]:0")) as proxy:
        host, _, port = proxy.addresses["one"].rpartition(":")
        assert host == "[::1]"
        carries(Client.over(socket.create_connection(("::1", int(port)), 10)))
        recorded(proxy)


def test_a_unix_socket_listener(text: Text) -> None:
    """The path is relative to the configuration's folder, and the mode is the configured one."""
    with Proxy(text("unix:console.sock:mode=660")) as proxy:
        path = proxy.folder / "console.sock"
        assert proxy.addresses["one"] == f"unix:{path}" and path.stat().st_mode & 0o777 == 0o660
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(path))
        carries(Client.over(stream))
        recorded(proxy)
        proxy.stop()
        assert not path.exists()


def test_a_twisted_endpoint_listener(text: Text) -> None:
    """A listener may be any server endpoint of Twisted."""
    with Proxy(text("tcp:0:interface=127.0.0.1")) as proxy:
        carries(Client(proxy.ports["one"]))
        recorded(proxy)


def test_the_command_works_in_any_folder(tmp_path: Path) -> None:
    """An installed esxiproxy is one of twistd's commands wherever one is, and its own --help works."""
    assert "esxiproxy" in run("--help", folder=tmp_path, status=0)
    assert "--config" in run("esxiproxy", "--help", folder=tmp_path, status=0)


# As a daemon


def test_as_a_daemon(text: Text) -> None:
    """The command returns when the ports are bound; SIGTERM ends the daemon and takes its pidfile away."""
    with Daemon(text()) as proxy:
        daemon, started = proxy.daemon, proxy.pid
        assert runs(daemon) and daemon != started
        assert os.getsid(daemon) != os.getsid(0)
        carries(Client(proxy.ports["one"]))
        recorded(proxy)
        proxy.stop()
        assert not runs(daemon) and not (proxy.folder / "run.pid").exists()
        assert not accepts(proxy.ports["one"])
        proxy.assert_clean()


def test_a_daemon_finds_its_files_from_another_folder(tls_folder: Path, secure: ScriptedUpstream) -> None:
    """Paths are relative to the configuration's folder, in which a daemon does not stay."""
    content = tls_text(secure, Path("tls"))
    proxy = Daemon(content, "--rundir=/")
    shutil.copytree(tls_folder, proxy.folder / "tls")
    with proxy:
        assert Path(f"/proc/{proxy.daemon}/cwd").resolve() == Path("/")
        carries(Client(proxy.ports["one"], tls=True))
        recorded(proxy)


@ROOT_ONLY
def test_as_nobody_on_a_privileged_port(tls_folder: Path, secure: ScriptedUpstream) -> None:
    """Root binds the port and reads the files. Everything else runs as nobody, without groups of root."""
    port, nobody = privileged_port(), pwd.getpwnam("nobody")
    content = tls_text(secure, tls_folder, f"127.0.0.1:{port}")
    assert tls_folder.stat().st_uid == 0 and tls_folder.stat().st_mode & 0o777 == 0o700
    with Daemon(content, "--uid", "nobody") as proxy:
        assert proxy.ports == {"one": port}
        status = Path(f"/proc/{proxy.daemon}/status").read_text()
        ids = {key: set(values.split()) for key, values in re.findall(r"^(\w+):\t(.*)$", status, re.M)}
        assert ids["Uid"] == {str(nobody.pw_uid)} and ids["Gid"] == {str(nobody.pw_gid)}
        assert ids["Groups"] <= {str(nobody.pw_gid)}
        assert ids["CapEff"] == {"0" * 16}
        carries(Client(port, tls=True))
        recorded(proxy)
        proxy.stop()
        proxy.assert_clean()


# What it refuses

PROBLEMS = """
[listener one]
listen = 127.0.0.1:0
upstream = nobody
colour = blue

[listener two]
listen = 127.0.0.1:0
certificate = gone.crt
private_key = gone.key
upstream = esxi1

[upstream esxi1]
url = http://127.0.0.1:9
"""


@pytest.mark.parametrize("mode", [["-n"], []], ids=["foreground", "daemon"])
def test_each_problem_of_a_configuration_is_reported(mode: list[str], tmp_path: Path) -> None:
    """Each problem has its file and line. No address is bound, and the process ends."""
    (tmp_path / "proxy.ini").write_text(PROBLEMS)
    said = run(*mode, "esxiproxy", "--config", "proxy.ini", folder=tmp_path, status=1)
    places = re.findall(r"^proxy\.ini:(\d+): \[(\w+ \w+)\] (\w+): ", said, re.M)
    assert places == [
        ("4", "listener one", "upstream"),
        ("5", "listener one", "colour"),
        ("9", "listener two", "certificate"),
        ("10", "listener two", "private_key"),
        ("14", "upstream esxi1", "url"),
    ]
    assert "listening" not in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["proxy.ini"]


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    """The file is the problem's place as well."""
    said = run("-n", "esxiproxy", "--config", "gone.ini", folder=tmp_path, status=1)
    assert "gone.ini:1: no such file" in said and "Traceback" not in said


@pytest.mark.parametrize("mode", ["foreground", "daemon"])
def test_an_address_in_use_is_an_error_of_the_start(mode: str, text: Text, tmp_path: Path) -> None:
    """One line names the listener. The process ends, and no address stays bound."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, free = other.getsockname()[1], free_port()
        second = config.listener("two", listen=f"127.0.0.1:{taken}")
        (tmp_path / "proxy.ini").write_text(text(f"127.0.0.1:{free}", second))
        options = ["-n"] if mode == "foreground" else ["--logfile=run.log"]
        command = [*options, "--pidfile=run.pid", "esxiproxy", "--config", "proxy.ini"]
        said = run(*command, folder=tmp_path, status=1)
    assert "listener two: Couldn't listen on" in said
    log = said if mode == "foreground" else (tmp_path / "run.log").read_text()
    assert f"esxiproxy: listener two: Couldn't listen on 127.0.0.1:{taken}: " in log
    assert "Address already in use" in log
    assert not re.search("Unhandled|Traceback", log) and TICKET not in log, log
    until(lambda: not (tmp_path / "run.pid").exists() and not accepts(free), "it lets go of the other port")


# How it ends


def test_sigterm_drains(text: Text, upstream: ScriptedUpstream) -> None:
    """A console continues for drain_timeout, then both sides get a Close 1001 with the reason."""
    upstream.forget()
    with Proxy(text(drain_timeout="1s", close_timeout="2s")) as proxy, Client(proxy.ports["one"]) as client:
        client.open(TARGET, ["binary"])
        os.kill(proxy.pid, signal.SIGTERM)
        until(lambda: not accepts(proxy.ports["one"]), "the port is closed")
        client.send_frame(TEXT, b"still here")
        assert client.recv_frame().payload == b"still here"
        assert client.recv_close() == (1001, REASON)
        client.send_close(1001)
        client.recv_eof()
        frames = upstream.connection().frames
        until(lambda: frames[-1].opcode == CLOSE, "the upstream has its Close")
        assert frames[-1].payload[2:].decode() == REASON
        until(lambda: not runs(proxy.pid), "the process ends")
        assert proxy.stop() == 0
        assert f"Draining: {REASON}" in proxy.log() and "Server Shut Down" in proxy.log()
        proxy.assert_clean()


def test_the_last_console_ends_the_drain(text: Text) -> None:
    """The drain ends with its last session, before drain_timeout."""
    with Proxy(text(drain_timeout="1h")) as proxy:
        client = Client(proxy.ports["one"])
        client.open(TARGET, ["binary"])
        os.kill(proxy.pid, signal.SIGTERM)
        until(lambda: not accepts(proxy.ports["one"]), "the port is closed")
        assert runs(proxy.pid)
        client.send_close(1000)
        client.recv_close()
        client.close()
        until(lambda: not runs(proxy.pid), "the process ends")
        proxy.assert_clean()


def test_peers_that_never_read_do_not_hold_it_up(text: Text) -> None:
    """A peer that does not answer the Close within close_timeout is aborted."""
    with (
        Proxy(text(drain_timeout="500ms", close_timeout="1s")) as proxy,
        Client(proxy.ports["one"]) as client,
    ):
        client.open(TARGET, ["binary"])
        os.kill(proxy.pid, signal.SIGTERM)
        until(lambda: not runs(proxy.pid), "the process ends", 8)
        proxy.assert_clean()

"""The things that several workers share: limits, the access log, sockets, permissions and the package."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import unittest.mock
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.integration.test_manhole import Operator
from tests.support import programs
from tests.support.crowd import (
    TARGET,
    Crew,
    Notified,
    children,
    echoes,
    held,
    let_go,
    opened,
)
from tests.support.processes import ROOT_ONLY, Daemon, privileged_port
from tests.support.programs import ROOT, TICKET, until
from tests.support.websocket_peers import Client
from tests.support.workers import Text, gone, published, records, reloaded


def test_limits_hold_over_all_workers(text: Text) -> None:
    """Of thirty clients at once ten are admitted, and one more for each that has left."""
    with Crew(text(more="max_sessions = 10")) as crew:
        port = crew.ports["one"]
        clients = [Client(port, timeout=30) for _ in range(30)]
        answers = [client.ask(TARGET, ["binary"]).status for client in clients]
        inside = [client for client, status in zip(clients, answers, strict=True) if status == 101]
        assert len(inside) == 10 and set(answers) == {101, 503}
        assert len([count for count in held(port, crew.workers()) if count]) == 2
        inside.pop().drop()
        again = until(lambda: let_in(port), "there is room for one more")
        let_go([again, *clients])


def let_in(port: int) -> Client | None:
    client = Client(port)
    if client.ask(TARGET, ["binary"]).status == 101:
        return client
    client.drop()
    return None


def test_the_slots_of_a_crashed_worker_are_free_at_once(text: Text) -> None:
    """The slots are free when the crash is known, before the end of the lease."""
    with Crew(text(more="max_sessions = 10")) as crew:
        port, (victim, _other) = crew.ports["one"], crew.workers()
        clients = opened(port, 10)
        lost = held(port, [victim])[0]
        assert lost
        os.kill(victim, signal.SIGKILL)
        found = [until(lambda: let_in(port), "a slot is free again", 10) for _ in range(lost)]
        assert let_in(port) is None
        let_go(clients + found)


def test_workers_write_one_access_log(text: Text) -> None:
    """Every console has its whole line, and SIGUSR1 to the master has all of them write to a new file."""
    with Crew(text(more="access_log = access.log")) as crew:
        port, log = crew.ports["one"], crew.folder / "access.log"
        let_go(opened(port, 50))
        until(lambda: log.read_text().count("\n") == 50, "fifty lines")
        log.rename(crew.folder / "old.log")
        os.kill(crew.pid, signal.SIGUSR1)
        until(lambda: crew.log().count("access.log reopened") == 2, "both have reopened it")
        let_go(opened(port, 50))
        until(lambda: log.read_text().count("\n") == 50, "fifty more lines")
        lines = (log.read_text() + (crew.folder / "old.log").read_text()).splitlines()
        assert len(lines) == 100 and all(line[0] == "{" and line[-1] == "}" for line in lines)


def test_only_the_master_notifies_systemd(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY comes when all workers are ready, and no worker has systemd's variables."""
    with Notified(monkeypatch) as notified, Crew(text()) as crew:
        first = notified.next()
        assert "READY=1" in first and "STATUS=2 workers, 0 connections" in first
        for pid in crew.workers():
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert TICKET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        reloaded(crew)
        assert "RELOADING=1" in notified.next()
        assert "READY=1" in notified.next()
        assert crew.stop() == 0
        assert "STOPPING=1" in notified.next()


def test_the_manhole_leads_into_one_of_the_workers(text: Text, tmp_path: Path) -> None:
    """The master binds it, and who comes in sees the consoles of the worker that took the connection."""
    operator = Operator(tmp_path, "operator")
    more = "manhole = 127.0.0.1:0\nmanhole_keys = authorized_keys"
    with Crew(text(more=more), {"authorized_keys": operator.public}) as crew:
        found = re.search(r"manhole listening on 127.0.0.1:(\d+)", crew.log())
        assert found, crew.log()
        crew.ports["manhole"] = int(found[1])
        clients = opened(crew.ports["one"], 6)
        said = operator.run(crew, "print(len(list(proxy.sessions))) if 'proxy' in dir() else sessions()")
        assert said.returncode == 0, said
        assert re.search(r"\b[1-5] sessions?", said.stdout), said
        reloaded(crew)
        assert operator.run(crew, "sessions()").stdout.strip().startswith(("no session", "0 session"))
        let_go(clients)


def test_a_unix_socket_is_shared_and_survives_a_reload(text: Text) -> None:
    """The socket belongs to the master, and exists as long as the master runs."""
    with Crew(text(listen="unix:proxy.sock")) as crew:
        path = crew.folder / "proxy.sock"
        first = over_unix(path)
        reloaded(crew)
        os.kill(crew.workers()[-1], signal.SIGKILL)  # a new one
        second = over_unix(path)
        assert echoes(first) and path.is_socket()
        let_go([first, second])
        assert crew.stop() == 0
        assert not path.exists()
        assert "Traceback" not in crew.log()


def over_unix(path: Path) -> Client:
    """Open a console through a unix socket."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(str(path))
    client = Client.over(stream)
    client.open(TARGET, ["binary"])
    return client


@ROOT_ONLY
def test_a_daemon_gives_root_away_behind_a_privileged_port(text: Text) -> None:
    """Root binds the port, nobody runs everything else, and the workers' lines are in the log file."""
    port, nobody = privileged_port(), pwd.getpwnam("nobody")
    if not may_run(nobody.pw_uid):
        pytest.skip(f"nobody may not run {sys.executable}")
    with CrewDaemon(text(listen=f"127.0.0.1:{port}"), "--uid", "nobody") as crew:
        until(lambda: "all workers are ready" in crew.log(), "the workers are ready")
        workers = children(crew.daemon)
        assert len(workers) == 2
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in workers} == {nobody.pw_uid}
        clients = opened(port, 4)
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: "is ready" in crew.log().rpartition("SIGKILL")[2], "it is replaced")
        until(lambda: "WorkerLost" in crew.log(), "what it lost is recorded")
        os.kill(crew.daemon, signal.SIGHUP)
        until(lambda: "is in force" in crew.log(), "the workers are exchanged")
        clients += opened(port, 4)
        let_go(clients)
        crew.assert_clean()
    assert all(map(gone, workers))


def may_run(uid: int) -> bool:
    """Return whether a user can run this Python, which may be in a folder of root."""
    command = [sys.executable, "-P", "-c", "import esxiproxy"]
    try:
        return subprocess.run(command, user=uid, timeout=30, check=False).returncode == 0
    except PermissionError:
        return False


class CrewDaemon(Daemon):
    """esxiproxy as a daemon, with several workers."""

    def stop(self, seconds: float = 20.0) -> int:
        return super().stop(seconds)


def test_an_upgrade_of_the_package_is_a_reload(text: Text, tmp_path: Path) -> None:
    """New workers run the code that is installed then, under the master from before; no console ends."""
    for part in ("esxiproxy", "twisted"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.cache"))
    with Installed(text(), tmp_path) as crew:
        port = crew.ports["one"]
        clients = opened(port, 4)
        sessionlog = tmp_path / "esxiproxy/ops/logs/session_log.py"
        sessionlog.write_text(sessionlog.read_text().replace("ended by", "upgraded, ended by"))
        reloaded(crew)
        clients += opened(port, 4)
        assert all(echoes(client) for client in clients)
        let_go(clients)
        until(lambda: crew.log().count(": session ") == 8, "eight records")
        assert (
            crew.log().count(" ended by client") == 8 and crew.log().count(" upgraded, ended by client") == 4
        )
        crew.assert_clean()


BEFORE = "b6e62a3a8c1eb64e220a55e6bac35d06d74aff84"
"""The last commit before files and classes got their present names."""


def older_package(tmp_path: Path) -> Path:
    """Extract the package of that commit from git."""
    archive = tmp_path / "before.tar"
    made = subprocess.run(
        ["git", "-C", ROOT, "archive", "--output", archive, BEFORE, "esxiproxy", "twisted"],
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if made.returncode:
        pytest.skip(f"git does not have the commit {BEFORE[:12]}: {made.stderr.strip()}")
    package = tmp_path / "older"
    with tarfile.open(archive) as tar:
        tar.extractall(package, filter="data")
    # The metadata of the installed package is that of this version, which names types.
    for module in ("routers/static.py", "authenticators/anonymous.py"):
        with (package / "esxiproxy" / module).open("a") as file:
            file.write("\nTYPE = from_config\n")
    return package


def test_an_older_master_starts_the_workers_of_this_version(text: Text, tmp_path: Path) -> None:
    """The messages between master and workers have kept their words, and no console ends."""
    package = older_package(tmp_path)
    with Installed(text(), package) as crew:
        port, old = crew.ports["one"], crew.workers()
        clients = opened(port, 4)
        for part in ("esxiproxy", "twisted"):
            shutil.rmtree(package / part)
            ignored = shutil.ignore_patterns("__pycache__", "*.cache")
            shutil.copytree(ROOT / part, package / part, ignore=ignored)
        crew.path.write_text(text(rest="[admin]\n"))
        reloaded(crew)
        assert crew.log().count("[admin] is not served, since the running master is of an older version") == 1
        assert crew.admins() == [] and not (crew.folder / "admin.sock").exists()
        new = sorted(set(crew.workers()) - set(old))
        assert len(new) == 2
        clients += opened(port, 4)
        assert all(echoes(client) for client in clients)
        lost = held(port, new)[0]
        published(crew, 8)
        os.kill(new[0], signal.SIGKILL)
        until(lambda: len(records(crew)) == lost, "the crashed worker's sessions have their records")
        let_go(clients)
        until(lambda: crew.log().count(": session ") == 8, "eight records")
        assert crew.stop() == 0
        crew.assert_clean()


def test_a_master_of_this_version_starts_the_workers_of_an_older_one(text: Text, tmp_path: Path) -> None:
    """After a return to the older package there is no admin process, and no console ends."""
    older = older_package(tmp_path)
    package = tmp_path / "package"
    ignored = shutil.ignore_patterns("__pycache__", "*.cache")
    for part in ("esxiproxy", "twisted"):
        shutil.copytree(ROOT / part, package / part, ignore=ignored)
    with Installed(text(rest="[admin]\n"), package) as crew:
        port, old = crew.ports["one"], crew.workers()
        clients = opened(port, 4)
        assert len(crew.admins()) == 1
        for part in ("esxiproxy", "twisted"):
            shutil.rmtree(package / part)
            shutil.copytree(older / part, package / part)
        crew.path.write_text(text())
        reloaded(crew)
        until(lambda: len(set(crew.workers()) - set(old)) == 2, "only two workers are new")
        clients += opened(port, 4)
        assert all(echoes(client) for client in clients)
        until(lambda: crew.admins() == [] and not (crew.folder / "admin.sock").exists(), "it has ended")
        let_go(clients)
        assert crew.stop() == 0
        crew.assert_clean()


class Installed(Crew):
    """esxiproxy from a copy of the package."""

    def __init__(self, text: str, package: Path) -> None:
        super().__init__(text)
        self._package = package

    def command(self) -> Sequence[str | Path]:
        return ["env", f"PYTHONPATH={self._package}", *super().command()]


def test_workers_serve_a_socket_of_systemds(text: Text) -> None:
    """Socket activation passes the socket to the master, which passes it to workers.

    It outlives the proxy.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with Activated(text(listen="systemd:domain=INET:index=0"), listening) as crew:
            clients = opened(port, 4)
            reloaded(crew)
            clients += opened(port, 4)
            assert all(echoes(client) for client in clients)
            let_go(clients)
            assert crew.stop() == 0
        Client(port).drop()


class Activated(Crew):
    """esxiproxy with one socket from systemd."""

    def __init__(self, text: str, listening: socket.socket) -> None:
        super().__init__(text)
        self._listening = listening

    def command(self) -> Sequence[str | Path]:
        number = self._listening.fileno()
        script = f'import os, sys; os.dup2({number}, 3); os.environ["LISTEN_PID"] = str(os.getpid())'
        run = (
            "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='console'); os.execv(sys.argv[1], sys.argv[1:])"
        )
        return [sys.executable, "-c", f"{script}; {run}", *super().command()]

    def start(self, seconds: float = 40.0) -> Crew:
        self._listening.set_inheritable(True)
        with unittest.mock.patch("subprocess.Popen", partial(subprocess.Popen, close_fds=False)):
            return super().start(seconds)

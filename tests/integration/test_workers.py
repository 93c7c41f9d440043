"""Several workers behind one port: spread, replaced, exchanged and stopped, with real processes."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import unittest.mock
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.integration.test_manhole import Operator
from tests.support import config, programs
from tests.support.crowd import (
    TARGET,
    Crew,
    EchoUpstream,
    Notified,
    children,
    echoes,
    held,
    let_go,
    opened,
)
from tests.support.processes import ROOT_ONLY, Daemon, privileged_port
from tests.support.programs import ROOT, TICKET, free_port, until
from tests.support.websocket_peers import Client

Text = Callable[..., str]


@pytest.fixture
def text(upstream: EchoUpstream) -> Text:
    def content(
        workers: int = 2, more: str = "", drain: str = "20s", listen: str = "127.0.0.1:0", rest: str = ""
    ) -> str:
        return rest + config.ini(
            config.listener(listen=listen),
            config.upstream(upstream.port),
            more=more,
            workers=workers,
            drain_timeout=drain,
            close_timeout="1s",
            max_connections="off",
            max_sessions_per_console="off",
        )

    return content


def gone(pid: int) -> bool:
    """Whether there is no such process, or only its zombie."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


# Spread


@pytest.mark.parametrize("workers", [2, 4])
def test_consoles_are_spread_evenly(text: Text, workers: int) -> None:
    """After a thousand arrivals, one by one and fifty at once, nobody holds over 1.2 times the mean."""
    with Crew(text(workers)) as crew:
        port, pids = crew.ports["one"], crew.workers()
        assert len(pids) == workers
        clients = []
        for _ in range(10):
            clients += [opened(port)[0] for _ in range(50)]
            clients += opened(port, 50)
        shares = held(port, pids)
        assert sum(shares) == len(clients) == 1000
        assert max(shares) <= 1.2 * 1000 / workers, shares
        assert all(echoes(client) for client in clients[::50])
        let_go(clients)
        until(lambda: sum(held(port, pids)) == 0, "everybody has gone")
        crew.assert_clean()


def test_a_worker_that_hangs_is_not_waited_for(text: Text) -> None:
    """A stopped worker keeps its consoles; new ones come to the others, whoever held more before."""
    with Crew(text()) as crew:
        port, (stopped, other) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        os.kill(stopped, signal.SIGSTOP)
        try:
            clients += [opened(port)[0] for _ in range(20)]
            before, after = held(port, [stopped, other])
            assert before + after == 40 and before <= 12
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert all(echoes(client) for client in clients)
        let_go(clients)


# Death


def test_a_worker_that_is_killed_takes_its_own_consoles_only(text: Text) -> None:
    """The others' go on, new ones open at once, another worker comes, and each lost one is recorded."""
    with Crew(text()) as crew:
        port, (victim, survivor) = crew.ports["one"], crew.workers()
        clients = opened(port, 40)
        lost = held(port, [victim])[0]
        assert 0 < lost < 40
        published(crew, 40)
        os.kill(victim, signal.SIGKILL)
        let_go(opened(port, 5))
        assert sum(echoes(client) for client in clients) == 40 - lost
        until(lambda: len(records(crew)) == lost, "each lost session has its record")
        assert len(set(records(crew))) == lost
        until(lambda: crew.log().count("is ready\n") == 1, "another worker has come")
        replaced = crew.workers()
        assert survivor in replaced and victim not in replaced and len(replaced) == 2
        clients += opened(port, 40)
        assert min(held(port, replaced)) > 10
        assert "worker 0 killed by SIGKILL" in crew.log() or "worker 1 killed by SIGKILL" in crew.log()
        let_go(clients)
        crew.assert_clean()


def published(crew: Crew, count: int) -> None:
    """Until all of them are in the list of sessions."""
    database = next(crew.folder.glob("esxiproxy-*/state.sqlite"))

    def listed() -> bool:
        with sqlite3.connect(database, timeout=10) as connection:
            return bool(connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == count)

    until(listed, f"{count} sessions are listed")


def records(crew: Crew) -> list[str]:
    """The ids of the sessions that are recorded as lost."""
    return re.findall(r"session (\w+) one 127.0.0.1:\d+ /ticket/\*\*\* .*WorkerLost", crew.log())


def test_a_worker_that_hangs_for_longer_than_its_lease_has_its_consoles_recorded(text: Text) -> None:
    """Nobody tells of them while it may come back, and whoever finds it dead finds them all."""
    with Crew(text()) as crew:
        port, (victim, _survivor) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        hangs = held(port, [victim])[0]
        published(crew, 20)
        os.kill(victim, signal.SIGSTOP)
        expired(crew)
        published(crew, 20 - hangs)
        assert records(crew) == []
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(records(crew)) == hangs, "each lost session has its record")
        assert len(set(records(crew))) == hangs
        assert sum(echoes(client) for client in clients) == 20 - hangs
        let_go(clients)
        crew.assert_clean()


def test_a_worker_that_goes_on_after_its_lease_has_lost_nothing(text: Text) -> None:
    """Its consoles are alive and listed again, and none of them is recorded as lost."""
    with Crew(text()) as crew:
        port, (victim, _survivor) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        hangs = held(port, [victim])[0]
        published(crew, 20)
        os.kill(victim, signal.SIGSTOP)
        try:
            expired(crew)
            published(crew, 20 - hangs)
        finally:
            os.kill(victim, signal.SIGCONT)
        published(crew, 20)
        assert all(map(echoes, clients))
        let_go(clients)
        published(crew, 0)
        assert crew.stop(30) == 0
        assert "WorkerLost" not in crew.log()
        crew.assert_clean()


def expired(crew: Crew) -> None:
    """Everybody's lease runs out, as by the time; whoever is alive takes a new one."""
    database = next(crew.folder.glob("esxiproxy-*/state.sqlite"))
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        for table in ("holders", "leases"):
            connection.execute(f"UPDATE {table} SET expires = 1")


def test_a_crash_loop_backs_off_and_is_loud(text: Text) -> None:
    """Whoever dies young waits for twice as long each time, while the other worker serves."""
    with Crew(text()) as crew:
        (first, _other), port = crew.workers(), crew.ports["one"]
        for delay in ("0.1", "0.2", "0.4", "0.8"):
            victim = next(pid for pid in crew.workers() if pid != _other)
            os.kill(victim, signal.SIGKILL)
            until(lambda text=delay: f"is started again in {text} s" in crew.log(), f"it waits {delay} s")
            let_go(opened(port))
            until(lambda: len(crew.workers()) == 2, "the next one is there")
        errors = [line for line in crew.log().splitlines() if "#error" in line]
        assert sum("killed by SIGKILL" in line for line in errors) == 4
        assert _other in crew.workers() and first not in crew.workers()


# Reload


def reloaded(crew: Crew, outcome: str = "is in force") -> None:
    """SIGHUP, and its outcome is in the log."""
    before = crew.log().count(outcome)
    os.kill(crew.pid, signal.SIGHUP)
    until(lambda: crew.log().count(outcome) > before, f"reload: {outcome}", 40)


def test_a_reload_keeps_every_console_and_brings_new_workers(text: Text) -> None:
    """New ones serve from then on, as many as the file says now; old ones end with their last console."""
    with Crew(text(workers=2)) as crew:
        port, old = crew.ports["one"], crew.workers()
        clients = opened(port, 10)
        crew.path.write_text(text(workers=3))
        reloaded(crew)
        new = [pid for pid in crew.workers() if pid not in old]
        assert len(new) == 3
        fresh = opened(port, 30)
        assert sum(held(port, old)) == 10 and all(held(port, old))
        assert sum(held(port, new)) == 30 and max(held(port, new)) <= 12
        assert all(echoes(client) for client in clients + fresh)
        let_go(clients)
        until(lambda: all(map(gone, old)), "the old ones have ended")
        assert all(echoes(client) for client in fresh)
        let_go(fresh)
        assert crew.stop() == 0
        crew.assert_clean()


def test_old_workers_end_with_worker_shutdown_timeout(text: Text) -> None:
    """Consoles that are left in them get a Close 1001, and those of the new ones do not."""
    with Crew(text(more="worker_shutdown_timeout = 1s")) as crew:
        port, old = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        reloaded(crew)
        fresh = opened(port, 6)
        assert {client.recv_close() for client in clients} == {(1001, "the proxy is shutting down")}
        let_go(clients)
        until(lambda: all(map(gone, old)), "the old ones have ended", 5)
        assert all(echoes(client) for client in fresh)
        let_go(fresh)
        crew.assert_clean()


def test_listeners_come_and_go_with_a_reload(text: Text) -> None:
    """A new one is bound, and one that is gone from the file is closed when nobody accepts there any more."""
    two = "[listener two]\nlisten = 127.0.0.1:{}\nupstream = esxi1\n"
    more = free_port()
    with Crew(text()) as crew:
        port = crew.ports["one"]
        first = opened(port)
        crew.path.write_text(text(rest=two.format(more)))
        reloaded(crew)
        second = opened(more)
        crew.path.write_text(text())
        reloaded(crew)
        until(lambda: refuses(more), "the listener is closed")
        third = opened(port)
        assert all(echoes(client) for client in first + second + third)
        let_go(first + second + third)
        crew.assert_clean()


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        Client(port, timeout=1).drop()
    except ConnectionRefusedError:
        return True
    return False


def test_a_bad_file_changes_nothing(text: Text) -> None:
    """Its problems are in the log, and so is what fails only when the workers start: the old ones go on."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 4)
        os.mkfifo(crew.folder / "taken")  # which nobody reads
        crew.path.write_text(text(more="no_such_key = 1"))
        reloaded(crew, "everything stays as it was")
        assert re.search(r"proxy.ini:\d+: \[proxy\] no_such_key:", crew.log()), crew.log()
        crew.path.write_text(text(more="access_log = taken"))
        reloaded(crew, "everything stays as it was")
        assert "taken: No such device or address" in crew.log()
        until(lambda: crew.workers() == workers, "the new ones are gone")
        clients += opened(port, 4)
        assert all(echoes(client) for client in clients)
        crew.path.write_text(text())
        reloaded(crew)
        let_go(clients)
        assert TICKET not in crew.log()


def test_no_connect_is_refused_while_workers_are_exchanged(text: Text) -> None:
    """A steady stream of consoles over several reloads: each of them opens and echoes."""
    with Crew(text()) as crew:
        port = crew.ports["one"]
        for _ in range(3):
            before = crew.log().count("is in force")
            os.kill(crew.pid, signal.SIGHUP)
            while crew.log().count("is in force") == before:
                (client,) = opened(port)
                assert echoes(client)
                client.drop()
        crew.assert_clean()


# The end


def test_sigterm_drains_all_workers(text: Text) -> None:
    """No console is taken any more; those that are there go on, and with the last one the status is 0."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        os.kill(crew.pid, signal.SIGTERM)
        until(lambda: refuses(port), "nobody listens any more")
        assert all(echoes(client) for client in clients)
        let_go(clients)
        assert crew._process is not None and crew._process.wait(15) == 0
        assert all(map(gone, workers))
        assert not list(crew.folder.glob("esxiproxy-*"))
        crew.assert_clean()


def test_a_draining_worker_records_the_sessions_of_a_crashed_one(text: Text) -> None:
    """The others' consoles go on meanwhile; nobody is left to do so for the last one, which the log says."""
    with Crew(text()) as crew:
        port, (victim, last) = crew.ports["one"], crew.workers()
        clients = opened(port, 20)
        lost, left = held(port, [victim, last])
        published(crew, 20)
        os.kill(crew.pid, signal.SIGTERM)
        until(lambda: refuses(port), "nobody listens any more")
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(records(crew)) == lost, "each lost session has its record")
        assert lost and left and sum(echoes(client) for client in clients) == left
        os.kill(last, signal.SIGKILL)
        assert crew._process is not None and crew._process.wait(15) == 0
        assert len(records(crew)) == lost and "no other worker is running" in crew.log()
        let_go(clients)
        crew.assert_clean()


def test_a_drain_ends_with_a_close_and_a_reason(text: Text) -> None:
    """Whoever stays beyond drain_timeout gets 1001."""
    with Crew(text(drain="1s")) as crew:
        clients = opened(crew.ports["one"], 6)
        os.kill(crew.pid, signal.SIGTERM)
        assert {client.recv_close() for client in clients} == {(1001, "the proxy is shutting down")}
        let_go(clients)
        assert crew._process is not None and crew._process.wait(15) == 0


def test_a_signal_to_all_processes_is_one_signal(text: Text) -> None:
    """As ctrl-C and KillMode=control-group send it: nobody is replaced, and consoles drain."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        for pid in [crew.pid, *workers]:
            os.kill(pid, signal.SIGTERM)
        until(lambda: refuses(port), "nobody listens any more")
        assert all(echoes(client) for client in clients)
        let_go(clients)
        assert crew._process is not None and crew._process.wait(15) == 0
        assert "started again" not in crew.log()
        assert all(map(gone, workers))
        crew.assert_clean()


def test_a_second_sigterm_is_at_once(text: Text) -> None:
    """The drain is over, whatever it had left; a worker that hangs is killed."""
    with Crew(text(drain="5m")) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        os.kill(workers[0], signal.SIGSTOP)
        os.kill(crew.pid, signal.SIGTERM)
        until(lambda: "once more ends it at once" in crew.log(), "it drains")
        os.kill(crew.pid, signal.SIGTERM)
        assert crew._process is not None and crew._process.wait(20) == 0
        assert all(map(gone, workers))
        let_go(clients)


def test_without_their_master_workers_drain_and_end(text: Text) -> None:
    """No process is left behind when the master is killed, and no console is cut off."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        os.kill(crew.pid, signal.SIGKILL)
        until(lambda: refuses(port), "nobody listens any more")
        assert all(echoes(client) for client in clients)
        let_go(clients)
        until(lambda: all(map(gone, workers)), "the workers have ended")


# The start


def test_workers_that_cannot_start_end_the_start(text: Text) -> None:
    """One line says why, and the status is 1."""
    crew = Crew(text(more="access_log = taken"))
    os.mkfifo(crew.folder / "taken")  # which nobody reads
    ended = subprocess.run(
        [str(part) for part in crew.command()],
        cwd=crew.folder,
        env=environment(crew),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(
        r"esxiproxy: worker \d ended with status 1: .*taken: No such device or address.*", line
    )
    assert not list(crew.folder.glob("esxiproxy-*"))


def environment(crew: Crew) -> dict[str, str]:
    """What a program of these tests is started with."""
    return os.environ | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(crew.folder)}


# What they share


def test_limits_hold_over_all_workers(text: Text) -> None:
    """Of thirty at once ten are let in, and one more for each that has gone."""
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
    """A limit's slots come back with the news of the death, not with the end of a lease."""
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


def test_systemd_hears_of_the_master_alone(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Its name is the master's: it is there as long as the master is, whatever becomes of workers."""
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
    """A console that came in through a unix socket."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(str(path))
    client = Client.over(stream)
    client.open(TARGET, ["binary"])
    return client


@ROOT_ONLY
def test_a_daemon_gives_root_away_behind_a_privileged_port(text: Text) -> None:
    """Root binds the port, nobody does everything else, and the workers' lines are in the log file."""
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
    """Whether a user can run this Python: one in root's own folder is for root alone."""
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
    """The package of that commit, which git has."""
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
    """What master and workers say to each other has kept its words; no console ends."""
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
    """After a way back to the older package the admin process is gone, and no console ends."""
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
        assert len(set(crew.workers()) - set(old)) == 2
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
    """As socket activation hands it to the master, which hands it on; it outlives the proxy."""
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

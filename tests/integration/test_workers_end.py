"""Several workers: their start, their drain and their end."""

from __future__ import annotations

import os
import re
import signal
import subprocess

from tests.support.crowd import (
    Crew,
    echoes,
    held,
    let_go,
    opened,
)
from tests.support.programs import until
from tests.support.websocket_peers import Client
from tests.support.workers import Text, gone, published, records, refuses


def drains(port: int, clients: list[Client]) -> None:
    """Check that the port is closed, and that open consoles continue until they are ended."""
    until(lambda: refuses(port), "nobody listens any more")
    assert all(echoes(client) for client in clients)
    let_go(clients)


def test_sigterm_drains_all_workers(text: Text) -> None:
    """New consoles are refused, open ones continue, and the status is 0 after the last one."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        os.kill(crew.pid, signal.SIGTERM)
        drains(port, clients)
        assert crew._process is not None and crew._process.wait(15) == 0
        assert all(map(gone, workers))
        assert not list(crew.folder.glob("esxiproxy-*"))
        crew.assert_clean()


def test_a_draining_worker_records_the_sessions_of_a_crashed_one(text: Text) -> None:
    """Other consoles continue. No worker can record the sessions of the last one, and the log says so."""
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
    """Clients that stay beyond drain_timeout get 1001."""
    with Crew(text(drain="1s")) as crew:
        clients = opened(crew.ports["one"], 6)
        os.kill(crew.pid, signal.SIGTERM)
        assert {client.recv_close() for client in clients} == {(1001, "the proxy is shutting down")}
        let_go(clients)
        assert crew._process is not None and crew._process.wait(15) == 0


def test_a_signal_to_all_processes_is_one_signal(text: Text) -> None:
    """Ctrl-C and KillMode=control-group send such signals. No worker is replaced, and consoles drain."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        for pid in [crew.pid, *workers]:
            os.kill(pid, signal.SIGTERM)
        drains(port, clients)
        assert crew._process is not None and crew._process.wait(15) == 0
        assert "started again" not in crew.log()
        assert all(map(gone, workers))
        crew.assert_clean()


def test_a_second_sigterm_is_at_once(text: Text) -> None:
    """The second signal ends the drain with open consoles, and a worker that hangs is killed."""
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
    """No process is left after the master is killed, and no console is cut off."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        os.kill(crew.pid, signal.SIGKILL)
        drains(port, clients)
        until(lambda: all(map(gone, workers)), "the workers have ended")


# The start


def test_workers_that_cannot_start_end_the_start(text: Text) -> None:
    """One line has the reason, and the status is 1."""
    crew = Crew(text(more="access_log = taken"))
    os.mkfifo(crew.folder / "taken")  # a pipe without a reader
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
    """Return the environment of the programs of these tests."""
    return os.environ | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(crew.folder)}

"""The shared state as real processes see it: locked by another program, removed, on a full disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import config
from tests.support.crowd import LINE, EchoUpstream, echoes, let_go, opened
from tests.support.programs import Proxy, need, until
from tests.support.websocket import handshake_fields
from tests.support.websocket_peers import Client

GONE, BACK = "shared state unavailable", "shared state available again"


def text(path: Path, upstream: EchoUpstream) -> str:
    """Return a listener whose shared state is this database."""
    return config.ini(
        config.listener(),
        config.upstream(upstream.port),
        state=f"sqlite:{path}",
        drain_timeout="1s",
        close_timeout="1s",
        max_connections="off",
        max_sessions=3,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def proxy(path: Path, upstream: EchoUpstream) -> Iterator[Proxy]:
    with Proxy(text(path, upstream)) as running:
        yield running
        running.assert_clean()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the database, as another program would."""
    with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def asked(proxy: Proxy) -> tuple[int, float]:
    """Return the status of a new client, and its seconds."""
    before = time.monotonic()
    with Client(proxy.ports["one"]) as client:
        client.send_request(LINE, handshake_fields(["binary"]))
        return client.recv_head().status, time.monotonic() - before


def listed(path: Path) -> int:
    """Return the number of listed sessions, 0 without a list."""
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(_only_read(path)) as other:
        return int(other.execute("SELECT count(*) FROM sessions").fetchone()[0])
    return 0


def _only_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=10, uri=True)


def free(proxy: Proxy) -> None:
    """Wait until all slots are free."""
    clients: list[Client] = []

    def all_three() -> bool:
        client = Client(proxy.ports["one"])
        client.send_request(LINE, handshake_fields(["binary"]))
        if client.recv_head().status == 101:
            clients.append(client)
        else:
            client.drop()
        return len(clients) == 3

    until(all_three, "three consoles")
    let_go(clients)


def terminated(proxy: Proxy, times: int = 1) -> float:
    """Return the seconds until the process has exited with status 0, after so many SIGTERMs."""
    assert proxy._process is not None
    for number in range(times):
        os.kill(proxy.pid, signal.SIGTERM)
        line = "ending at once" if number else "shutting down; once more"
        until(lambda line=line: line in proxy.log(), f"SIGTERM {number + 1} was heard")
    before = time.monotonic()
    assert proxy._process.wait(20) == 0, proxy.log()
    return time.monotonic() - before


def test_a_locked_database_refuses_new_clients_only(proxy: Proxy, path: Path) -> None:
    """New clients are refused quickly, consoles continue, and slots of ended ones are free afterwards."""
    consoles = opened(proxy.ports["one"], 3)
    until(lambda: listed(path) == 3, "they are listed")
    with locked(path):
        let_go(consoles[1:])
        answers = [asked(proxy) for _ in range(8)]
        assert {status for status, _took in answers} == {503}, answers
        assert sum(took for _status, took in answers) < 6, answers
        before = time.monotonic()
        assert echoes(consoles[0])
        assert time.monotonic() - before < 0.5
        until(lambda: GONE in proxy.log(), "it is told of")
    until(lambda: listed(path) == 1, "those that ended are off the list")
    let_go(consoles)
    free(proxy)
    until(lambda: BACK in proxy.log(), "it is told of")
    assert proxy.log().count(GONE) <= 2 and "StateUnavailable" in proxy.log()


def test_a_process_with_a_locked_database_ends_in_time(proxy: Proxy, path: Path) -> None:
    """The drain takes its usual time with any number of ended consoles."""
    consoles = opened(proxy.ports["one"], 3)
    until(lambda: listed(path) == 3, "they are listed")
    with locked(path):
        let_go(consoles[1:])
        asked(proxy)
        assert terminated(proxy) < 1 + 1 + 3 + 2  # drain and close, the state's patience, a slow machine
    let_go(consoles)


def test_a_second_sigterm_is_at_once_with_a_locked_database(proxy: Proxy, path: Path) -> None:
    """The process is gone, and not only its last words are there."""
    consoles = opened(proxy.ports["one"], 3)
    until(lambda: listed(path) == 3, "they are listed")
    with locked(path):
        let_go(consoles[1:])
        assert terminated(proxy, times=2) < 4
    let_go(consoles)


def test_a_database_that_is_taken_away_comes_back_with_all_that_is_here(proxy: Proxy, path: Path) -> None:
    """The open consoles are listed in the new database, and the limit holds."""
    consoles = opened(proxy.ports["one"], 3)
    until(lambda: listed(path) == 3, "they are listed")
    for file in path.parent.iterdir():
        file.unlink()
    until(lambda: listed(path) == 3, "they are listed again")
    assert asked(proxy)[0] == 503
    until(lambda: "LimitReached" in proxy.log(), "it is one too many")
    assert all(map(echoes, consoles))
    let_go(consoles)
    free(proxy)


def test_a_full_disk_under_the_database_ends_no_console(upstream: EchoUpstream, tmp_path: Path) -> None:
    """New clients get a 503 until there is room again, and then nothing is missing."""
    if os.getuid() != 0:
        pytest.skip("only root mounts a disk")
    mount = [need("mount", "mount"), "-t", "tmpfs", "-o", "size=2m", "none", tmp_path]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    path = tmp_path / "state.sqlite"
    try:
        with Proxy(text(path, upstream)) as proxy:
            consoles = opened(proxy.ports["one"], 2)
            until(lambda: listed(path) == 2, "they are listed")
            with (tmp_path / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
                while filler.write(bytes(4096)):
                    pass
            until(lambda: asked(proxy)[0] == 503, "a new client is refused")
            until(lambda: "StateUnavailable" in proxy.log(), "this is why")
            assert all(map(echoes, consoles))
            (tmp_path / "filler").unlink()
            let_go(consoles)
            free(proxy)
            assert proxy.stop() == 0
            proxy.assert_clean()
    finally:
        subprocess.run([need("umount", "mount"), tmp_path], check=True)

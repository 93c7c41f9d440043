"""[admin] over reloads and restarts of real processes: added, moved and removed, and a socket left behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import config
from tests.support.commands import command
from tests.support.crowd import Crew, EchoUpstream, echoes, let_go, opened
from tests.support.processes import Reloaded
from tests.support.programs import free_ports, until

Text = Callable[[str], str]


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
def text(upstream: EchoUpstream, workers: int) -> Text:
    """Return the configuration with this section [admin]."""
    rest = config.ini(
        config.listener(),
        config.upstream(upstream.port),
        workers=workers,
        ping_interval="off",
        max_sessions_per_console="off",
    )
    return lambda admin: admin + rest


class Workers(Reloaded, Crew):
    """Several workers that get another configuration."""


def started(text: str, workers: int) -> Reloaded:
    return Reloaded(text) if workers == 1 else Workers(text)


def get(port: int, path: str) -> tuple[int, str, str]:
    """Return the status, the type and the text of an answer on a port."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read().decode()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def serves(port: int) -> bool:
    """Return whether page, API and probes answer on a port."""
    status, kind, page = get(port, "/")
    assert (status, kind.partition(";")[0]) == (200, "text/html") and "<script" in page
    status, kind, answer = get(port, "/api/v1/status")
    assert (status, kind) == (200, "application/json") and json.loads(answer)["role"] == "viewer"
    return get(port, "/healthz")[0] == 200


def test_admin_is_added_moved_and_removed(text: Text, workers: int) -> None:
    """The page and the API are where the file says; an event stream ends; consoles never notice."""
    first, second = free_ports(2)
    with started(text(""), workers) as proxy:
        path = proxy.folder / "admin.sock"
        clients = opened(proxy.ports["one"], 4)
        assert not path.exists() and refuses(first)
        assert command("status", "--config", proxy.path).returncode == 3

        proxy.reload(text(f"[admin]\nlisten = 127.0.0.1:{first}\n"))
        assert serves(first)
        assert path.stat().st_mode & 0o777 == 0o600
        assert command("status", "--config", proxy.path).returncode == 0

        with closing(http.client.HTTPConnection("127.0.0.1", first, timeout=30)) as connection:
            connection.request("GET", "/api/v1/events")
            stream = connection.getresponse()
            assert stream.status == 200 and stream.readline().strip()
            proxy.path.write_text(text(f"[admin]\nlisten = 127.0.0.1:{second}\n"))
            done = command("reload", "--config", proxy.path)
            assert done.stdout == f"{proxy.path}: ok; it is in force\n", done.stderr
            while stream.read(65536):  # to the end of the stream
                pass
        until(lambda: refuses(first), "the old address is closed")
        assert serves(second)

        proxy.reload(text(""))
        until(lambda: refuses(second), "the address is closed")
        until(lambda: not path.exists(), "the socket is removed")
        done = command("status", "--config", proxy.path)
        assert done.returncode == 3 and "has no section [admin]" in done.stderr
        assert all(map(echoes, clients))
        let_go(clients)
        proxy.assert_clean()


def test_a_reload_that_fails_leaves_admin_as_it_was(text: Text, workers: int) -> None:
    (port,) = free_ports(1)
    with socket.socket() as taken, started(text(f"[admin]\nlisten = 127.0.0.1:{port}\n"), workers) as proxy:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        until(lambda: not refuses(port) and serves(port), "it serves")
        proxy.path.write_text(text(f"[admin]\nlisten = 127.0.0.1:{taken.getsockname()[1]}\n"))
        done = command("reload", "--config", proxy.path)
        assert done.returncode == 1 and done.stdout == ""
        assert "[admin]" in done.stderr and "everything stays as it was" in done.stderr
        assert serves(port)


def test_a_socket_that_a_killed_proxy_has_left_is_replaced(text: Text, workers: int) -> None:
    """The next start finds a socket of no process in its way."""
    admin = "[admin]\nsocket = left.sock\n"
    with started(text(admin), workers) as proxy:
        path = proxy.folder / "left.sock"
        until(lambda: command("status", "--socket", path).returncode == 0, "it serves")
        os.kill(proxy.pid, signal.SIGKILL)
        assert proxy._process is not None and proxy._process.wait(20) == -signal.SIGKILL
        until(lambda: not connects(path), "nobody listens")
        assert path.is_socket()
        assert "belongs to no running process" in command("status", "--socket", path).stderr
        with started(text(f"[admin]\nsocket = {path}\n"), workers) as following:
            until(lambda: command("status", "--socket", path).returncode == 0, "it serves")
            assert f"removed {path}, the socket of a process that no longer runs" in following.log()
            assert path.stat().st_mode & 0o777 == 0o600


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def test_a_socket_of_a_running_proxy_is_not_taken(text: Text, workers: int) -> None:
    with started(text("[admin]\n"), workers) as proxy:
        path = proxy.folder / "admin.sock"
        until(lambda: command("status", "--socket", path).returncode == 0, "it serves")
        with pytest.raises(AssertionError, match=f"another process listens on {path}"):
            started(text(f"[admin]\nsocket = {path}\n"), workers).start()
        assert command("status", "--socket", path).returncode == 0

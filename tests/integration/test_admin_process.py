"""The admin process of a proxy with several workers: killed, replaced and ended, with real processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha1
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from tests.support import config
from tests.support.crowd import Crew, EchoUpstream, echoes, held, let_go, opened
from tests.support.probe import Offering
from tests.support.programs import free_port, until
from tests.support.workers import gone, refuses, reloaded

Text = Callable[..., str]
REASON = {"reason": "a test"}
RELOAD = "/api/v1/reload"


@pytest.fixture
def text(upstream: EchoUpstream) -> Text:
    def content(admin: str = "[admin]\n", **proxy: Any) -> str:
        proxy = {"workers": 2, "close_timeout": "1s", "max_connections": "off"} | proxy
        proxy.setdefault("max_sessions_per_console", "off")
        return admin + config.ini(config.listener(), config.upstream(upstream.port), **proxy)

    return content


def asked(crew: Crew, body: dict[str, str] = REASON) -> tuple[bool, list[str]]:
    """Reload by the API, and return the outcome."""
    status, text = crew.ask("POST", RELOAD, body, 60)
    assert status == 200, text
    answer = json.loads(text)
    return answer["reloaded"], answer["problems"]


@contextlib.contextmanager
def arriving(port: int) -> Iterator[list[bool]]:
    """Open new consoles all the time; each of them has to open and to echo."""
    found: list[bool] = []
    ending = threading.Event()

    def arrive() -> None:
        while not ending.is_set():
            (client,) = opened(port)
            found.append(echoes(client))
            client.drop()

    thread = threading.Thread(target=arrive)
    thread.start()
    try:
        yield found
    finally:
        ending.set()
        thread.join(30)


def test_its_death_costs_no_console_and_no_admission(text: Text) -> None:
    """The admin process is killed three times under open and new consoles, and restarted each time."""
    with Crew(text()) as crew:
        port = crew.ports["one"]
        clients = opened(port, 20)
        took = []
        with arriving(port) as found:
            for _ in range(3):
                (victim,) = crew.admins()
                before = len(found)
                os.kill(victim, signal.SIGKILL)
                since = time.monotonic()
                assert crew.ask("GET", "/readyz") == (200, "ready\n")
                took.append(time.monotonic() - since)
                until(lambda count=before: len(found) > count, "consoles open meanwhile")
                assert crew.admins() != [victim] and len(crew.admins()) == 1
        print(f"the admin process was back after {', '.join(f'{each:.2f} s' for each in took)}")
        assert max(took) < 10, took
        assert found and all(found) and all(map(echoes, clients))
        assert sum(held(port, crew.workers())) == 20
        assert crew.log().count("admin process killed by SIGKILL") == 3
        assert "WorkerLost" not in crew.log() and "worker 0 is started" not in crew.log()
        let_go(clients)
        crew.assert_clean()


def test_a_reload_is_answered_and_the_socket_stays(text: Text) -> None:
    """The old process answers, the new one serves on the same sockets, and no console ends."""
    probe = free_port()
    with Crew(text(f"[admin]\nprobe_listen = 127.0.0.1:{probe}\n")) as crew:
        (old,), path = crew.admins(), crew.folder / "admin.sock"
        inode, mode = path.stat().st_ino, path.stat().st_mode & 0o777
        clients = opened(crew.ports["one"], 4)
        assert asked(crew) == (True, [])
        until(lambda: gone(old), "the old one has ended", 10)
        (new,) = crew.admins()
        assert new != old and (path.stat().st_ino, mode) == (inode, 0o600)
        assert crew.ask("GET", "/healthz") == (200, "alive\n") and not refuses(probe)
        crew.path.write_text(text())
        reloaded(crew)
        until(lambda: refuses(probe), "the address that is gone is closed")
        assert crew.ask("GET", "/readyz") == (200, "ready\n") and path.stat().st_ino == inode
        assert all(map(echoes, clients))
        let_go(clients)
        assert crew.stop() == 0 and not path.exists()
        crew.assert_clean()


def test_a_reload_that_fails_returns_its_problems_and_changes_nothing(text: Text) -> None:
    """The outcome has the problems of the file, and those that appear only when the workers start."""
    with Crew(text()) as crew:
        before, workers = crew.admins(), crew.workers()
        crew.path.write_text(text(no_such_key="1"))
        done, (problem,) = asked(crew)
        assert not done and re.search(r"proxy.ini:\d+: \[proxy\] no_such_key: ", problem)
        os.mkfifo(crew.folder / "taken")  # a pipe without a reader
        crew.path.write_text(text(access_log="taken"))
        done, (problem,) = asked(crew)
        assert not done and "taken: No such device or address" in problem
        until(lambda: (crew.admins(), crew.workers()) == (before, workers), "the new ones are gone")
        assert crew.ask("GET", "/readyz") == (200, "ready\n")
        crew.path.write_text(text())
        assert asked(crew) == (True, [])


def test_two_reloads_at_once_have_their_own_outcomes(text: Text) -> None:
    """The first reload reads a valid file.

    The second one, which waits for the first, reads an invalid one.
    """
    with Crew(text()) as crew:
        outcomes: dict[str, tuple[bool, list[str]]] = {}
        threads = []
        for name in ("first", "second"):
            threads.append(threading.Thread(target=lambda name=name: outcomes.update({name: asked(crew)})))
            threads[-1].start()
            if name == "first":
                # The file has been read when the new workers start.
                until(lambda: len(crew.workers()) == 4, "new workers start")
                crew.path.write_text(text(no_such_key="1"))
        for thread in threads:
            thread.join(60)
        assert outcomes["first"] == (True, [])
        done, (problem,) = outcomes["second"]
        assert not done and "no_such_key" in problem
        until(lambda: len(crew.admins()) == 1, "the old one has ended")
        crew.assert_clean()


def test_a_drain_is_shown_until_the_last_console_has_ended(text: Text) -> None:
    """While consoles are left the admin process serves, is alive and not ready, and it ends with them."""
    with Crew(text(drain_timeout="60s")) as crew:
        clients = opened(crew.ports["one"], 4)
        (admin,) = crew.admins()
        os.kill(crew.pid, signal.SIGTERM)
        until(lambda: crew.ask("GET", "/readyz")[0] == 503, "it is not ready")
        assert crew.ask("GET", "/readyz") == (503, "the proxy is shutting down\n")
        assert crew.ask("GET", "/healthz") == (200, "alive\n") and all(map(echoes, clients))
        let_go(clients)
        assert crew._process is not None and crew._process.wait(20) == 0
        assert gone(admin) and not (crew.folder / "admin.sock").exists()
        assert not list(crew.folder.glob("esxiproxy-*"))
        crew.assert_clean()


def test_without_its_master_it_ends(text: Text) -> None:
    """The addresses of the admin process are free before it has ended, for a new master."""
    probe = free_port()
    with Crew(text(f"[admin]\nprobe_listen = 127.0.0.1:{probe}\n")) as crew:
        (admin,) = crew.admins()
        until(lambda: crew.ask("GET", "/readyz")[0] == 200, "it serves")
        clients = opened(crew.ports["one"], 2)
        os.kill(crew.pid, signal.SIGKILL)
        until(lambda: refuses(probe), "the address is free")
        until(lambda: gone(admin), "it has ended", 10)
        assert all(map(echoes, clients))
        let_go(clients)


def test_the_authenticators_of_admin_are_asked_in_it(text: Text) -> None:
    """Viewers need a login on the address for people."""
    port = free_port()
    admin = (
        f"[admin]\nlisten = 127.0.0.1:{port}\nauthenticator = people\nviewers = alice\n"
        "[authenticator people]\ntype = htpasswd\nfile = people\n"
    )
    people = f"alice:{{SHA}}{b64encode(sha1(b'secret').digest()).decode()}\n"
    with Crew(text(admin), {"people": people}) as crew:
        until(lambda: not refuses(port), "it serves")
        assert [logged_in(port, login) for login in (None, "alice:wrong", "alice:secret")] == [401, 401, 200]
        crew.assert_clean()


def logged_in(port: int, login: str | None) -> int:
    """Return the status of a request to the address for people with this name and password."""
    fields = {} if login is None else {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/api/v1/drains", headers=fields)
        return connection.getresponse().status


def test_a_signal_to_all_processes_ends_it_once(text: Text) -> None:
    with Crew(text()) as crew:
        for pid in [crew.pid, *crew.workers(), *crew.admins()]:
            os.kill(pid, signal.SIGTERM)
        assert crew._process is not None and crew._process.wait(20) == 0
        assert not (crew.folder / "admin.sock").exists()
        crew.assert_clean()


def test_the_metrics_of_all_children_are_in_the_private_directory(text: Text) -> None:
    """Only the children use the folder, and no other user may read it."""
    with Crew(text()) as crew:
        (folder,) = crew.folder.glob("esxiproxy-*/metrics")
        for pid in (*crew.workers(), *crew.admins()):
            with open(f"/proc/{pid}/environ", "rb") as environ:
                assert f"ESXIPROXY_METRICS_FOLDER={folder}".encode() in environ.read().split(b"\0")
        assert folder.stat().st_mode & 0o777 == 0o700


# The plugins of services


class Bound(Service):
    """A plugin that needs a path of its own, so that it cannot run twice."""

    def __init__(self, _config: object, reactor: Any) -> None:
        self._reactor = reactor
        self._port: Any = None

    def startService(self) -> None:
        super().startService()
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        self._port = self._reactor.listenUNIX("bound.sock", factory)
        Logger().info("bound in {pid}", pid=os.getpid())

    def stopService(self) -> Any:
        super().stopService()
        Logger().info("unbound in {pid}", pid=os.getpid())
        return self._port.stopListening()


class Serving(Offering, Crew):
    """Workers with the plugin."""

    plugins = {"esxiproxy.services": {"bound": f"{__name__}:Bound"}}


def bound_in(crew: Crew) -> list[int]:
    return [int(pid) for pid in re.findall(r" bound in (\d+)", crew.log())]


def test_services_run_in_it_and_never_twice(text: Text) -> None:
    """Services run in the admin process without [admin] as well.

    A reload moves them to the new process, and a failed reload starts them again.
    """
    with Serving(text("", services="bound")) as crew:
        (first,) = crew.admins()
        assert bound_in(crew) == [first] and not (crew.folder / "admin.sock").exists()
        reloaded(crew)
        until(lambda: crew.admins() != [first] and len(crew.admins()) == 1, "the old one has ended")
        (second,) = crew.admins()
        assert bound_in(crew) == [first, second]
        os.mkfifo(crew.folder / "taken")  # a pipe without a reader
        crew.path.write_text(text("", services="bound", access_log="taken"))
        reloaded(crew, "everything stays as it was")
        until(lambda: bound_in(crew)[-1] == second and crew.admins() == [second], "they run again")
        os.kill(second, signal.SIGTERM)
        until(lambda: bound_in(crew)[-1] not in (first, second), "they run in the next one")
        assert crew.admins() == [bound_in(crew)[-1]]
        crew.path.write_text(text(""))
        reloaded(crew)
        until(lambda: crew.admins() == [], "it is not needed any more")
        crew.assert_clean()

"""Drains in a shared database, as real workers see them: over a reload, a crash and to their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.drain import Drain, DrainKind
from esxiproxy.core.session.drain_table import DrainTable
from esxiproxy.state.sqlite import SqliteState
from tests.state.world import Immediate
from tests.support import config
from tests.support.crowd import TARGET, Crew, EchoUpstream, echoes, let_go, opened
from tests.support.programs import TICKET, until
from tests.support.websocket_peers import Client


class Reactor(Clock):
    """A reactor of which the state needs only the calls from its thread."""

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)


class Operator:
    """Another process that shares the state: it drains and undrains."""

    def __init__(self, path: Path) -> None:
        self._state = SqliteState(path, Reactor(), Immediate())
        self._state.start(lambda command: None)
        self._table = DrainTable(self._state, ProcessIdentity("elsewhere"), time.time)

    def drain(
        self, kind: str, name: str = "", machine: str = "", end: float = inf, reason: str = ""
    ) -> list[Drain]:
        return self._done(self._table.drain(DrainKind(kind), name, machine, end, "alice", reason))

    def undrain(self, kind: str, name: str = "", machine: str = "") -> list[Drain]:
        return self._done(self._table.undrain(DrainKind(kind), name, machine))

    def stop(self) -> None:
        self._state.stop()

    @staticmethod
    def _done(coroutine: Any) -> list[Drain]:
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        (result,) = results
        assert isinstance(result, list), result
        return result


def text(folder: Path, port: int) -> str:
    return config.ini(
        config.listener(health="/readyz"),
        config.upstream(port),
        workers=2,
        state=f"sqlite:{folder}/state.db",
        close_timeout="1s",
        max_sessions_per_console="off",
    )


@contextlib.contextmanager
def operating(folder: Path) -> Iterator[Operator]:
    operator = Operator(folder / "state.db")
    try:
        yield operator
    finally:
        operator.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drains")


@pytest.fixture(scope="module")
def crew(upstream: EchoUpstream, folder: Path) -> Iterator[Crew]:
    """Run workers for all tests, and check their log at the end."""
    with Crew(text(folder, upstream.port)) as crew:
        yield crew
        assert not re.search("Unhandled|Traceback", crew.log()), crew.log()
        assert TICKET not in crew.log()


@pytest.fixture(scope="module")
def operator(crew: Crew, folder: Path) -> Iterator[Operator]:
    with operating(folder) as operator:
        yield operator


def refused(crew: Crew, count: int = 20) -> bool:
    """Return whether all of so many new consoles are refused by a drain."""
    statuses = set()
    for _ in range(count):
        with Client(crew.ports["one"]) as client:
            head = client.ask(TARGET)
            statuses.add(head.status)
            if head.status == 503:
                assert b"The proxy is draining." in client.recv_body(head)
                assert head.one("Retry-After") == "5"
    return statuses == {503}


def known(crew: Crew, drain: Drain, processes: int) -> None:
    """Wait until so many processes know this drain."""
    said = f"{drain.subject} is drained and takes no new consoles"
    until(lambda: crew.log().count(said) >= processes, f"{processes} processes know the drain")


MACHINE = socket.gethostname()
SUBJECTS = [
    ("host", "127.0.0.1", ""),
    ("host", "ESXI1", ""),
    ("upstream", "esxi1", ""),
    ("listener", "one", MACHINE),
    ("proxy", "", MACHINE),
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: "-".join(subject[:2]))
def test_a_drain_holds_over_a_reload_and_a_killed_worker(
    crew: Crew, operator: Operator, subject: tuple[str, str, str]
) -> None:
    """All workers of a master are one run, so that one drain is theirs."""
    running = opened(crew.ports["one"], 4)
    (drain,) = operator.drain(*subject, reason="new memory")
    known(crew, drain, 2)
    assert refused(crew) and all(map(echoes, running))

    before = crew.log().count("is in force")
    os.kill(crew.pid, signal.SIGHUP)
    until(lambda: crew.log().count("is in force") > before, "the reload", 40)
    assert refused(crew)
    known(crew, drain, 4)
    assert all(map(echoes, running))

    os.kill(crew.workers()[-1], signal.SIGKILL)
    assert refused(crew)
    until(lambda: "is ready" in crew.log().rpartition("SIGKILL")[2], "another worker has come", 40)
    assert refused(crew)
    known(crew, drain, 5)

    assert operator.undrain(*subject) == [drain]
    until(lambda: not refused(crew, 1), "a console is admitted")
    until(lambda: all(not refused(crew, 1) for _ in range(10)), "every worker admits consoles")
    let_go(running)


def test_at_the_end_consoles_of_all_workers_are_closed_with_the_reason(
    crew: Crew, operator: Operator
) -> None:
    running = opened(crew.ports["one"], 6)
    before = crew.log().count("is in force")
    os.kill(crew.pid, signal.SIGHUP)
    until(lambda: crew.log().count("is in force") > before, "the reload", 40)
    running += opened(crew.ports["one"], 6)
    operator.drain("host", "esxi1", end=time.time() + 2, reason="Wartung ☕")
    assert {client.recv_close(20) for client in running} == {(1001, "Wartung ☕")}
    let_go(running)
    operator.undrain("host", "esxi1")
    until(lambda: all(not refused(crew, 1) for _ in range(10)), "every worker admits consoles")


def test_a_machine_that_is_named_takes_no_consoles_and_its_health_check_says_so(
    crew: Crew, operator: Operator
) -> None:
    def asked() -> tuple[int, bytes]:
        with Client(crew.ports["one"]) as client:
            client.get("/readyz")
            head, body = client.recv_answer()
            return head.status, body

    assert asked() == (200, b"ready\n")
    drains = operator.drain("listener", "one", machine=MACHINE)
    assert [drain.machine for drain in drains] == [MACHINE.lower()]
    until(lambda: all(asked() == (503, b"draining\n") for _ in range(20)), "the health checks")
    assert refused(crew)
    assert operator.undrain("listener", "one", machine=MACHINE) == drains
    until(lambda: all(asked() == (200, b"ready\n") for _ in range(20)), "the health checks")


def test_a_master_that_is_restarted_is_not_drained_and_its_hosts_are(
    upstream: EchoUpstream, tmp_path: Path
) -> None:
    with Crew(text(tmp_path, upstream.port)) as crew, operating(tmp_path) as operator:
        operator.drain("proxy", machine=MACHINE)
        (drain,) = operator.drain("host", "other")
        until(lambda: refused(crew, 1), "the drain is known")
        assert crew.stop() == 0
        with Crew(crew.path.read_text()) as again:
            let_go(opened(again.ports["one"], 4))
            known(again, drain, 2)
            operator.drain("host", "esxi1")
            until(lambda: refused(again, 1), "the drain is known")
            logs = crew.log() + again.log()
    assert not re.search("Unhandled|Traceback", logs), logs
    assert TICKET not in logs

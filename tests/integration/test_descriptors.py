"""A process with few descriptors keeps its consoles, delays or refuses new ones, and recovers."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.crowd import TARGET
from tests.support.probe import ProbedProxy
from tests.support.programs import need, until
from tests.support.proxy_scene import ProxyScene
from tests.support.websocket import BINARY, handshake_fields, head_bytes
from tests.support.websocket_peers import Client, ScriptedUpstream

LIMIT = 200
RESERVE = 64
"""`esxiproxy.ops.process.descriptors.RESERVE`: what is left for everything that is no admitted session."""
FULL = 3.0
"""Seconds for which nothing can be accepted."""


@dataclass
class CrowdedScene(ProxyScene):
    """A proxy with few descriptors, and clients that the test closes at its end."""

    clients: list[Client] = field(default_factory=list)
    crowd: list[socket.socket] = field(default_factory=list)

    def try_console(self, name: str = "one", timeout: float = 10.0) -> Client | None:
        """Return an open console, or None if it was refused with 503."""
        client = self.client(name, timeout)
        head = client.ask(TARGET, ["binary"])
        if head.status == 101:
            self.clients.append(client)
            return client
        assert head.status == 503, head.line
        assert head.one("Proxy-Status") == "esxiproxy; error=connection_limit_reached"
        assert head.one("Retry-After")
        client.close()
        return None

    def fill(self, name: str = "one") -> int:
        """Open consoles until one is refused, and return their number."""
        while self.try_console(name) is not None:
            assert len(self.clients) < LIMIT
        return len(self.clients)

    def connect_until_paused(self) -> None:
        """Open silent connections until the proxy accepts no more."""
        said = self.complaints()

        def more() -> bool:
            for _ in range(4):
                line = socket.socket()
                line.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    line.connect(("127.0.0.1", self.proxy.ports["one"]))
                self.crowd.append(line)
            assert len(self.crowd) < 2 * LIMIT
            return self.complaints() > said

        until(more, "it logs that accepting is paused", 30)

    def leave(self) -> None:
        """Close all connections, some of them without a Close frame."""
        for number, client in enumerate(self.clients):
            client.close() if number % 2 else client.reset()
        for line in self.crowd:
            line.close()
        self.clients.clear()
        self.crowd.clear()

    def complaints(self) -> int:
        """Return how often the proxy logged that accepting is paused."""
        return self.proxy.log().count("accepting connections is paused")

    def records(self) -> list[dict[str, object]]:
        """Return the records in the access log."""
        path = self.proxy.folder / "access.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def refused(self, count: int) -> list[dict[str, object]]:
        """Wait for the access-log lines of at least so many refusals, and return them."""

        def lines() -> list[dict[str, object]] | None:
            found = [record for record in self.records() if record["status"] != 101]
            return found if len(found) >= count else None

        return until(lines, f"{count} lines of refusals")

    def recovered(self) -> None:
        """Check that all descriptors are free again, and that a console opens."""
        self.await_idle(20)
        client = until(self.try_console, "a console opens again")
        echoes(client)
        self.leave()
        until(lambda: self.proxy.connections() == 0, "the last connection is gone")


def echoes(client: Client) -> None:
    """Send a word to the upstream, and check its echo."""
    client.send_frame(BINARY, b"still here")
    assert client.recv_frame().payload == b"still here"


@pytest.fixture
def scene(listener_certificate: Certificate) -> Iterator[CrowdedScene]:
    prlimit: Path = Path(need("prlimit", "util-linux"))
    with ScriptedUpstream() as upstream:
        text = config.ini(
            config.listener(),
            config.listener("three", tls=listener_certificate),
            config.upstream(upstream.port),
            services="probe",
            access_log="access.log",
            max_connections="off",
            head_timeout="60s",
            close_timeout="2s",
        )
        with ProbedProxy(text, before=[prlimit, f"--nofile={LIMIT}:{LIMIT}"]) as proxy:
            scene = CrowdedScene(proxy)
            for name in ("one", "three"):  # whatever the first ones open for good is counted as there
                assert scene.try_console(name)
            scene.leave()
            until(lambda: proxy.connections() == 0, "no connection is left of the first consoles")
            scene.idle = proxy.descriptors()
            yield scene
            scene.leave()
            proxy.stop()
            proxy.assert_clean()
            log = proxy.log()
        assert f"open files: {LIMIT}, which is enough for {(LIMIT - RESERVE) // 2} sessions" in log


@pytest.mark.parametrize("name", ["one", "three"])
def test_a_console_too_many_is_refused_and_those_that_run_go_on(name: str, scene: CrowdedScene) -> None:
    """The kernel is not asked for what there is not: the refusal comes before, and by name."""
    count = scene.fill(name)
    assert (LIMIT - RESERVE - scene.idle - 4) // 2 <= count <= (LIMIT - RESERVE) // 2
    for client in scene.clients:
        echoes(client)
    assert [scene.try_console(name) for _ in range(20)] == [None] * 20
    errors = {record["error"] for record in scene.refused(20)} - {"ClientLost"}
    assert errors == {"OutOfDescriptors"} and not scene.complaints()
    scene.leave()
    scene.recovered()


def test_without_descriptors_sessions_are_kept_and_new_connections_wait(scene: CrowdedScene) -> None:
    """The proxy does not spin and logs little. Clients in the accept queue are served when others leave."""
    for _ in range(10):
        assert scene.try_console()
    scene.connect_until_paused()
    lines, before = len(scene.proxy.log().splitlines()), scene.proxy.processor_time()
    began = time.monotonic()
    waiting = socket.create_connection(("127.0.0.1", scene.proxy.ports["three"]), 10)
    while time.monotonic() - began < FULL:
        for client in scene.clients:
            echoes(client)
    spent, took = scene.proxy.processor_time() - before, time.monotonic() - began
    said = scene.proxy.log().splitlines()[lines:]
    # The echoes cost something, and a port that spins costs all there is.
    assert len(said) <= 5 * took, said
    assert spent < 0.8 * took
    quiet, before = time.monotonic(), scene.proxy.processor_time()
    until(lambda: time.monotonic() - quiet > 1 or None, "a second without a word", 5)
    assert scene.proxy.processor_time() - before < 0.3
    assert scene.proxy.descriptors() <= LIMIT
    waiting.close()
    scene.leave()
    scene.recovered()


def test_a_connection_in_the_accept_queue_is_served_later(scene: CrowdedScene) -> None:
    """The client gets its console, or a refusal if the others' descriptors are not all closed yet."""
    scene.connect_until_paused()
    with socket.create_connection(("127.0.0.1", scene.proxy.ports["one"]), 10) as waiting:
        waiting.sendall(head_bytes(f"GET {TARGET} HTTP/1.1", handshake_fields(["binary"])))
        scene.leave()
        waiting.settimeout(15)
        assert waiting.recv(12) in (b"HTTP/1.1 101", b"HTTP/1.1 503")
    scene.recovered()


@pytest.mark.parametrize("name", ["one", "three"])
def test_in_a_rush_each_admitted_session_is_dialled(name: str, scene: CrowdedScene) -> None:
    """Many at once, more than there is room for: each gets its console, or the refusal."""
    outcomes: list[object] = []
    together = threading.Barrier(24)

    def rush() -> None:
        try:
            together.wait(20)
            for _ in range(8):
                outcomes.append(scene.try_console(name, timeout=30.0) is not None)
        except BaseException as problem:
            outcomes.append(problem)

    threads = [threading.Thread(target=rush, daemon=True) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(outcomes) == {True, False}, [each for each in outcomes if each not in (True, False)]
    for client in scene.clients:
        echoes(client)
    refused = scene.refused(outcomes.count(False))
    assert {(record["status"], record["error"]) for record in refused} == {(503, "OutOfDescriptors")}
    assert {record["detail"] for record in refused} == {"no file descriptor left for one more session"}
    assert not re.search(r"status=502|status=504", scene.proxy.log())
    scene.leave()
    scene.recovered()


def test_repeated_overload_leaks_nothing(scene: CrowdedScene) -> None:
    """Repeated overload leaks nothing."""
    rounds: list[Callable[[], object]] = [scene.fill, scene.connect_until_paused, scene.fill]
    for overload in rounds:
        overload()
        scene.leave()
        scene.recovered()
    assert scene.is_idle()

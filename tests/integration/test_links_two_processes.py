"""Links that two processes share by one SQLite state: one console each, also if a process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from esxiproxy.state.lease import LEASE
from tests.support import config, issued_links
from tests.support.arrivals import Attempts
from tests.support.crowd import Crew, echoes, held
from tests.support.issued_links import PUBLIC_URL, IssuedLink, link, revoke
from tests.support.links import key_folder
from tests.support.programs import Proxy, dead_port, until
from tests.support.scripts import drops_before_answer, echo
from tests.support.websocket_peers import Client, ScriptedUpstream

ATTEMPTS = 1000


def text(folder: Path, workers: int = 1) -> str:
    """Return a proxy with the database of this folder; a host has one connection at a time."""
    return config.ini(
        config.listener("one", None, router="issued", public_url=PUBLIC_URL),
        issued_links.router(folder / "keys"),
        config.upstream("ws://127.0.0.1:1", "esxi"),
        state=f"sqlite:{folder}/state.db",
        workers=workers,
        access_log="stdout",
        max_connections=1,
        close_timeout="1s",
        drain_timeout="1s",
    )


@contextlib.contextmanager
def started(folder: Path, kind: str) -> Iterator[list[Proxy]]:
    """Start two proxies with one worker each, or one with two."""
    if not (folder / "keys").exists():
        key_folder(folder)
    with contextlib.ExitStack() as stack:
        if kind == "two processes":
            proxies = [stack.enter_context(Proxy(text(folder))) for _ in range(2)]
        else:
            proxies = [stack.enter_context(Crew(text(folder, workers=2)))]
        issued_links.await_state(proxies[0].ports["one"])
        yield proxies
        for proxy in proxies:
            proxy.assert_clean()


@pytest.fixture(scope="module", params=["two processes", "two workers"])
def proxies(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Proxy]]:
    with started(tmp_path_factory.mktemp("shared"), request.param) as running:
        yield running


def at(host: ScriptedUpstream) -> str:
    """Return where links lead to."""
    return f"{host.address}:{host.port}"


def console(proxy: Proxy, issued: IssuedLink) -> Client:
    """Open the console of a link, when the host has room again after the test before."""
    clients: list[Client] = []

    def opens() -> bool:
        client = Client(proxy.ports["one"], timeout=20)
        clients.append(client)
        return client.ask(issued.target, ["binary"]).status != 503

    until(opens, "the host has room")
    client = clients.pop()
    assert client.received.startswith(b"HTTP/1.1 101"), client.received
    for other in clients:
        other.close()
    return client


def status(proxy: Proxy, issued: IssuedLink) -> int:
    """Return the status of an opening; a console that it opens is closed."""
    with Client(proxy.ports["one"], timeout=20) as client:
        return client.ask(issued.target, ["binary"]).status


def logged(proxies: Sequence[Proxy], text: str) -> int:
    """Return how often the logs have a text."""
    return sum(proxy.log().count(text) for proxy in proxies)


def test_a_thousand_attempts_at_the_same_time_open_one_console(proxies: list[Proxy]) -> None:
    with ScriptedUpstream(echo()) as host:
        issued = link(proxies[0].path, at(host))
        with Attempts([proxy.ports["one"] for proxy in proxies], issued.target) as attempts:
            statuses = attempts.make(ATTEMPTS)
        assert statuses == {101: 1, 404: ATTEMPTS - 1}
        assert len(host.connections) == 1
        until(lambda: logged(proxies, '"error":"LinkUsed"') >= ATTEMPTS - 1, "all are logged")
        assert {status(proxy, issued) for proxy in proxies} == {404}


def test_a_full_host_does_not_spend_a_link(proxies: list[Proxy]) -> None:
    """Either process may have the connection to the host."""
    with ScriptedUpstream(echo()) as host:
        first, issued = (link(proxies[0].path, at(host)) for _ in range(2))
        client = console(proxies[0], first)
        for proxy in [*proxies, *proxies]:
            assert status(proxy, issued) == 503
        assert len(host.connections) == 1
        client.drop()
        until(lambda: status(proxies[-1], issued) == 101, "the host has room again")
        until(
            lambda: logged(proxies, '"error":"LinkUsed"') and status(proxies[0], issued) == 404, "it is used"
        )


def test_a_refused_dial_does_not_spend_a_link(proxies: list[Proxy]) -> None:
    with dead_port() as nobody:
        issued = link(proxies[0].path, nobody)
        for proxy in [*proxies, *proxies]:
            assert status(proxy, issued) == 502
    with ScriptedUpstream(echo(), at=nobody) as host:
        client = console(proxies[-1], issued)
        assert echoes(client)
        client.drop()
        until(lambda: status(proxies[0], issued) == 404, "it is used")
        assert len(host.connections) == 1


def test_a_host_that_has_read_the_request_spends_a_link(proxies: list[Proxy]) -> None:
    """The host may have used the ticket."""
    with ScriptedUpstream(drops_before_answer) as host:
        issued = link(proxies[0].path, at(host))
        assert status(proxies[0], issued) == 502
        until(lambda: status(proxies[-1], issued) == 404, "it is used")
        assert len(host.connections) == 1


def test_an_opening_in_another_process_replaces_a_console(proxies: list[Proxy]) -> None:
    """The command to end the first one reaches the second one's process as well, and later."""
    with ScriptedUpstream(echo()) as host:
        issued = link(proxies[0].path, at(host), "--reuse", "60s")
        clients = [console(proxies[0], issued)]
        for proxy in (proxies[-1], proxies[0]):
            clients.append(console(proxy, issued))
            assert clients[-2].recv_close() == (1008, "replaced")
            clients[-2].drop()
        time.sleep(1.5)  # every process has looked for commands
        assert echoes(clients[-1])
        clients[-1].drop()


def test_revoking_a_link_ends_its_consoles_in_all_processes(proxies: list[Proxy]) -> None:
    with ScriptedUpstream(echo()) as host, ScriptedUpstream(echo(), address="127.0.0.2") as other:
        links = [link(proxies[0].path, at(each), "--many") for each in (host, other)]
        clients = [console(proxies[0], links[0]), console(proxies[-1], links[1])]
        for issued, client in zip(links, clients, strict=True):
            revoke(proxies[0].path, issued)
            assert client.recv_close() == (1008, "the link was revoked")
            assert {status(proxy, issued) for proxy in proxies} == {404}


@pytest.mark.timeout(8 * LEASE)
def test_a_killed_process_counts_as_a_disconnect_when_its_lease_ends(tmp_path: Path) -> None:
    """Before the end of the lease the links are in use.

    After it one is used up, and the other one works again.
    """
    with (
        started(tmp_path, "two processes") as (killed, other),
        ScriptedUpstream(echo()) as host,
        ScriptedUpstream(echo(), address="127.0.0.2") as second,
    ):
        once, again = link(killed.path, at(host)), link(killed.path, at(second), "--reuse", "60s")
        clients = [console(killed, once), console(killed, again)]
        os.kill(killed.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        for client in clients:
            client.recv_eof()
        assert (status(other, once), status(other, again)) == (404, 404)
        client = Client(other.ports["one"], timeout=20)

        def opens() -> bool:
            nonlocal client
            client = Client(other.ports["one"], timeout=20)
            return client.ask(again.target, ["binary"]).status == 101

        until(opens, "the lease has ended", 3 * LEASE)
        assert LEASE / 3 < time.monotonic() - killed_at < 2 * LEASE
        assert echoes(client)
        assert status(other, once) == 404
        client.drop()


def test_a_killed_worker_counts_as_a_disconnect_at_once(tmp_path: Path) -> None:
    """The master sees that its worker has ended."""
    with (
        started(tmp_path, "two workers") as (crew,),
        ScriptedUpstream(echo()) as host,
        ScriptedUpstream(echo(), address="127.0.0.2") as second,
    ):
        assert isinstance(crew, Crew)
        once, again = link(crew.path, at(host)), link(crew.path, at(second), "--reuse", "60s")
        port = crew.ports["one"]
        for issued in (once, again):
            client = console(crew, issued)
            workers = crew.workers()
            (victim,) = [pid for pid, count in zip(workers, held(port, workers), strict=True) if count]
            os.kill(victim, signal.SIGKILL)
            client.recv_eof()
            until(lambda victim=victim: victim not in crew.workers(), "it is gone")
            until(lambda: len(crew.workers()) == 2, "there is another one")
        assert status(crew, once) == 404
        client = console(crew, again)
        assert echoes(client)
        client.drop()

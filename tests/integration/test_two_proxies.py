"""Two proxies that share one Redis server, one with several workers: limits, links, lists and a death."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest

from esxiproxy.cli.main import main
from tests.support import config, issued_links, redis_server
from tests.support.arrivals import Attempts
from tests.support.certificates import Authority
from tests.support.crowd import TARGET, EchoUpstream, echoes, let_go, opened
from tests.support.issued_links import PUBLIC_URL
from tests.support.links import key_folder
from tests.support.programs import Program, Proxy, free_ports, until
from tests.support.redis_server import RedisServer
from tests.support.scripts import echo
from tests.support.short_leases import ShortLeases
from tests.support.websocket_peers import Client, ScriptedUpstream

CAP = 64
PASSWORD = "pa55word"
HOST = "127.0.0.2"
"""The address of the host of links, which has a cap of its own."""


class CountingHost(EchoUpstream):
    """A host that knows how many connections it had at a time."""

    most = 0

    async def _serve(self, *streams: Any) -> None:
        self.most = max(self.most, self.open + 1)
        await super()._serve(*streams)


class OneProcess(ShortLeases):
    """esxiproxy in one process, which has no workers to wait for."""

    is_ready = Proxy.is_ready


@dataclass
class Machines:
    """The proxies, their Redis server and their host."""

    one: ShortLeases
    other: ShortLeases
    redis: RedisServer
    host: CountingHost

    @property
    def ports(self) -> list[int]:
        """The listener of each proxy."""
        return [proxy.ports["one"] for proxy in (self.one, self.other)]

    def stored(self, pattern: str) -> list[bytes]:
        """Return the keys in Redis that fit a pattern."""
        client = redis_server.Client(self.redis.port)
        assert client.call("AUTH", PASSWORD) == b"OK"
        keys: list[bytes] = client.call("KEYS", pattern)
        client.close()
        return keys


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    authority = Authority(folder)
    own = authority.server(addresses=["127.0.0.1"])
    (port,) = free_ports(1)
    tls = "--tls-cert-file", str(own.path), "--tls-key-file", str(own.key_path), "--tls-auth-clients", "no"
    redis = RedisServer(folder, "--requirepass", PASSWORD, "--tls-port", str(port), *tls)
    (folder / "password").write_text(f"{PASSWORD}\n")

    def text(name: str, workers: int) -> str:
        return config.ini(
            config.listener(max_sessions_per_client="off"),
            config.listener("links", None, router="issued", public_url=PUBLIC_URL),
            config.upstream(f"ws://127.0.0.1:{host.port}"),
            config.upstream("ws://127.0.0.1:1", "esxi"),
            issued_links.router(folder / "keys", opaque=True, template="esxi"),
            "[admin]\n",
            machine=name,
            workers=workers,
            state=f"rediss://127.0.0.1:{port}",
            state_password_file=folder / "password",
            state_ca=authority.path,
            access_log="stdout",
            max_connections=CAP,
            max_sessions_per_console="off",
            close_timeout="1s",
            drain_timeout="1s",
        )

    key_folder(folder)
    with (
        CountingHost() as host,
        ShortLeases(text("proxy-a", 2)) as one,
        OneProcess(text("proxy-b", 1)) as other,
    ):
        for proxy in (one, other):  # a new Redis admits nothing for 2 s
            until(lambda at=proxy.ports["one"]: asked(at), "a console")
        yield Machines(one, other, redis, host)
        one.assert_clean()
        other.assert_clean()
        assert PASSWORD not in one.log() + other.log()
    redis.stop()


def asked(port: int) -> bool:
    """Return whether a console can be opened, and end it at once."""
    with Client(port) as client:
        return client.ask(TARGET, ["binary"]).status == 101


def command(proxy: Program, *arguments: str) -> str:
    """Return what a command prints for a proxy."""
    with redirect_stdout(StringIO()) as said:
        status = main([*arguments, "--socket", str(proxy.folder / "admin.sock")])
    assert status == 0, said.getvalue()
    return said.getvalue()


def listed(proxy: Program) -> dict[str, str]:
    """Return the machine of each open console, by the session, as one proxy shows them."""
    return {row["id"]: row["machine"] for row in json.loads(command(proxy, "sessions", "--json", "--now"))}


def new_link(proxy: ShortLeases, at: str, **order: Any) -> tuple[str, str]:
    """Make an opaque link with the API of a proxy, and return its id and its target."""
    whole = {"router": "issued", "to": f"{at}{TARGET}", **order}
    status, text = proxy.ask("POST", "/api/v1/links", whole)
    assert status == 200, text
    made = json.loads(text)
    return made["id"], made["url"].removeprefix(PUBLIC_URL)


def test_a_link_that_works_once_works_once_on_both(machines: Machines) -> None:
    with ScriptedUpstream(echo(), address=HOST) as host:
        _, target = new_link(machines.one, f"{HOST}:{host.port}")
        ports = [proxy.ports["links"] for proxy in (machines.one, machines.other)]
        with Attempts(ports, target) as attempts:
            assert attempts.make(1000) == {101: 1, 404: 999}
            assert len(host.connections) == 1


def test_the_cap_of_a_host_holds_exactly_while_both_are_flooded(machines: Machines) -> None:
    host = machines.host
    until(lambda: host.open == 0, "the host has no connections")
    host.most = 0
    with Attempts(machines.ports) as attempts:
        assert attempts.make(300) == {101: CAP, 503: 300 - CAP}
        assert host.open == host.most == CAP
        attempts.drop()
        short = attempts.make(600, hold=False)
        assert set(short) == {101, 503} and short[101] > CAP, short
        until(lambda: host.open == 0, "all have ended")
        assert attempts.make(300) == {101: CAP, 503: 300 - CAP}
        assert host.open == host.most == CAP


def test_each_lists_and_ends_the_consoles_of_both(machines: Machines) -> None:
    until(lambda: listed(machines.one) == {}, "all consoles have ended")
    clients = [client for port in machines.ports for client in opened(port, 2)]
    both = until(lambda: found if len(found := listed(machines.one)) == 4 else None, "all are listed")
    assert sorted(both.values()) == ["proxy-a", "proxy-a", "proxy-b", "proxy-b"]
    assert listed(machines.other) == both
    status, text = machines.other.ask("GET", "/api/v1/workers")
    processes = sorted((row["machine"], row["worker"]) for row in json.loads(text)["workers"])
    assert status == 200 and processes == [
        *(("proxy-a", "0"), ("proxy-a", "1"), ("proxy-a", "admin")),
        ("proxy-b", "0"),
    ]
    for proxy, machine in ((machines.one, "proxy-b"), (machines.other, "proxy-a")):
        victim = next(session for session, where in both.items() if where == machine)
        command(proxy, "kill", victim, "--reason", "at noon")
        until(lambda proxy=proxy, victim=victim: victim not in listed(proxy), "it has ended")
    ended = [client for client in clients if not echoes(client)]
    assert [clients.index(client) // 2 for client in ended] == [0, 1]
    let_go(clients)


def test_links_are_made_and_revoked_on_either(machines: Machines) -> None:
    proxies = machines.one, machines.other
    identity, target = new_link(machines.one, f"127.0.0.1:{machines.host.port}", many=True)
    clients = [Client(proxy.ports["links"], timeout=20) for proxy in proxies]
    for client in clients:
        client.open(target, ["binary"])
        assert echoes(client)
    status, text = machines.other.ask("POST", "/api/v1/links/revoke", {"id": identity, "reason": "leaked"})
    assert status == 200, text
    for client, proxy in zip(clients, proxies, strict=True):
        assert client.recv_close() == (1008, "leaked")
        client.close()
        with Client(proxy.ports["links"]) as late:
            assert late.ask(target, ["binary"]).status == 404


def test_the_slots_of_a_crashed_machine_are_free_and_the_other_one_records_its_consoles(
    machines: Machines,
) -> None:
    one, other, host = machines.one, machines.other, machines.host
    until(lambda: host.open == 0, "all consoles have ended")
    with Attempts(machines.ports[1:]) as attempts:
        assert attempts.make(CAP) == {101: CAP}
        lost = until(lambda: found if len(found := listed(one)) == CAP else None, "they are listed")
        os.kill(other.pid, signal.SIGKILL)
    with Attempts(machines.ports[:1]) as attempts:
        assert attempts.make(1) == {503: 1}
        until(lambda: attempts.make(1) == {101: 1}, "the slots are free", 40)
        assert attempts.make(CAP + 1) == {101: CAP - 1, 503: 2}
        pattern = r"session (\w+) one 127\.0\.0\.1:\d+ .* ProxyLost: the proxy on proxy-b"
        until(lambda: len(re.findall(pattern, one.log())) >= CAP, "they are recorded", 40)
        until(lambda: machines.stored("*lost*") == [], "nothing is left to record")
    assert sorted(re.findall(pattern, one.log())) == sorted(lost)
    assert one.log().count("the proxy on proxy-b, process ") == 1
    lines = [json.loads(line[line.index("{") :]) for line in one.log().splitlines() if '"ProxyLost"' in line]
    assert sorted(line["session"] for line in lines) == sorted(lost)
    assert all("proxy-b" in line["detail"] and line["listener"] == "one" for line in lines)

    def failures() -> list[dict[str, Any]]:
        status, text = one.ask("GET", "/api/v1/failures?filter=ProxyLost&limit=500")
        assert status == 200, text
        rows: list[dict[str, Any]] = json.loads(text)["failures"]
        return rows

    rows = until(
        lambda: found if len(found := failures()) == CAP else None, "they are in the list of failures"
    )
    assert {(row["error"], row["machine"]) for row in rows} == {("ProxyLost", "proxy-b")}
    _, metrics = one.ask("GET", "/metrics")
    assert sum(map(float, re.findall(r"^esxiproxy_sessions_lost_total\{.*\} (\S+)$", metrics, re.M))) == CAP

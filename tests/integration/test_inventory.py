"""Hosts of an inventory: how a request names them, and what a change of the file does to running consoles."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.crowd import TARGET, echoes
from tests.support.programs import Proxy, until
from tests.support.proxy_scene import ProxyScene
from tests.support.scripts import echo
from tests.support.websocket_peers import Client, ScriptedUpstream

HEADER = "name,address,pins,labels"
MIB = 1 << 20
SECONDS = 8.0
"""Seconds until a change is in force on a machine with other work. Each second the file is looked at."""

LOCATED = {
    "path": "path:/h/{host}/",
    "query": "query:host",
    "host": "host:{host}.consoles.example.com",
    "cookie": "cookie:esxi",
}
"""The listeners, each with a router of its name."""


def request(kind: str, name: str) -> tuple[str, list[tuple[str, str]], str]:
    """Return the target, the fields and the Host of a request for a host at the listener of this kind."""
    return {
        "path": (f"/h/{name}{TARGET}?a=%2f", [], "proxy.test"),
        "query": (f"{TARGET}?host={name}&a=%2f", [], "proxy.test"),
        "host": (f"{TARGET}?a=%2f", [], f"{name}.consoles.example.com:8443"),
        "cookie": (f"{TARGET}?a=%2f", [("Cookie", f"theme=dark; esxi={name}")], "proxy.test"),
    }[kind]


def write(file: Path, rows: Sequence[str]) -> None:
    """Replace an inventory as editors and scripts do, in one step."""
    new = file.with_suffix(".new")
    new.write_text("\n".join([HEADER, *rows, ""]))
    new.replace(file)


class InventoryScene(ProxyScene):
    """A proxy with a listener for each way to name a host, and two hosts."""

    @property
    def file(self) -> Path:
        """The inventory of all listeners."""
        return self.proxy.folder / "hosts.csv"

    def row(self, name: str, host: str | None = None) -> str:
        """Return the row of a name for one of the hosts."""
        host = host or name
        return f"{name},ws://{self.hosts[host].address}:{self.hosts[host].port},,site=lab"

    def write(self, *rows: str, well: bool = True) -> None:
        """Replace the inventory and wait until every listener's router has read it."""
        line = "hosts.csv was read" if well else "hosts.csv has mistakes and is not used"
        before = self.proxy.log().count(line)
        write(self.file, rows)
        routers = len(LOCATED) + 1
        until(lambda: self.proxy.log().count(line) >= before + routers, "all routers have read it", SECONDS)

    def as_before(self) -> None:
        """Write the two rows of the start."""
        self.write(*map(self.row, self.hosts))

    def ask(self, name: str, listener: str = "path", kind: str = "path") -> tuple[Client, int]:
        """Return a client and the status of its opening."""
        target, fields, host = request(kind, name)
        client = Client(self.proxy.ports[listener])
        return client, client.ask(target, ["binary"], fields, host).status

    def status(self, name: str, kind: str = "path") -> int:
        """Return the status of an opening; a console that it opens is closed."""
        client, status = self.ask(name, kind, kind)
        client.close()
        return status

    def open_console(self, name: str, listener: str = "path") -> Client:
        """Open a console of a host."""
        client, status = self.ask(name, listener)
        assert status == 101 and echoes(client)
        return client


@pytest.fixture(scope="module")
def scene() -> Iterator[InventoryScene]:
    router = {"file": "hosts.csv", "template": "esxi", "allow": "127.0.0.0/8"}
    text = config.ini(
        config.template(),
        *(
            config.listener(name, None, router=name)
            + config.router(name, "inventory", locate=place, **router)
            for name, place in LOCATED.items()
        ),
        config.listener("strict", None, router="strict"),
        config.router("strict", "inventory", locate=LOCATED["path"], on_removed="end", **router),
        access_log="stdout",
        close_timeout="1s",
    )
    with (
        ScriptedUpstream(echo(), address="127.0.0.11") as first,
        ScriptedUpstream(echo(), address="127.0.0.12") as second,
    ):
        proxy = Proxy(text)
        found = InventoryScene(proxy, {"esxi1": first, "esxi2": second})
        write(found.file, [*map(found.row, found.hosts)])
        with proxy:
            yield found
            proxy.assert_clean()


@pytest.mark.parametrize("kind", LOCATED)
def test_a_request_names_its_host(scene: InventoryScene, kind: str) -> None:
    """The part that names it is not sent to the host, and the rest keeps its bytes."""
    for name, host in [("esxi1", "esxi1"), ("esxi2", "esxi2"), ("ESXi2", "esxi2"), ("esxi1.", "esxi1")]:
        if kind == "host" and name.endswith("."):
            continue
        before = len(scene.hosts[host].connections)
        assert scene.status(name, kind) == 101, name
        sent = scene.hosts[host].connection(before).request
        assert sent is not None and sent.target == f"{TARGET}?a=%2f"
        assert sent.one("Host") == f"{scene.hosts[host].address}:{scene.hosts[host].port}"
        assert sent.one("Cookie") == ("theme=dark" if kind == "cookie" else None)


@pytest.mark.parametrize("kind", LOCATED)
def test_a_host_that_is_not_in_the_list_is_not_dialled(scene: InventoryScene, kind: str) -> None:
    """The name of such a host is not looked up either, so the answer comes at once for every name."""
    before, logged = scene.dialled(), len(scene.proxy.log())
    port = [] if kind == "host" else [f"127.0.0.11:{scene.hosts['esxi1'].port}"]
    names = ["esxi3", "localhost", "esxi1x", "nowhere.invalid", "127.0.0.11", *port]
    began = time.monotonic()
    assert {scene.status(name, kind) for name in names} == {404}
    assert time.monotonic() - began < 2
    assert scene.dialled() == before
    line = r'"upstream":null,"host":null,.*"status":404.*"error":"RouteNotFound"'
    until(lambda: len(re.findall(line, scene.proxy.log()[logged:])) == len(names), "they are logged")


def test_a_change_of_the_file_is_in_force_without_a_dropped_console(scene: InventoryScene) -> None:
    """A removed host gets no new console, and its open ones continue."""
    consoles = [scene.open_console("esxi1"), scene.open_console("esxi2")]
    scene.write(scene.row("esxi2"), scene.row("new", "esxi1"))
    assert (scene.status("esxi1"), scene.status("esxi2"), scene.status("new")) == (404, 101, 101)
    assert all(map(echoes, consoles))
    scene.as_before()
    assert (scene.status("esxi1"), scene.status("new")) == (101, 404)
    assert all(map(echoes, consoles))
    for client in consoles:
        client.drop()


def test_a_version_with_mistakes_is_refused_with_its_lines(scene: InventoryScene) -> None:
    """No row of that version is used, and the hosts before it stay until the file is corrected."""
    console = scene.open_console("esxi1")
    rows = ["new,127.0.0.1:99999,,", scene.row("fine", "esxi1"), "esxi2,ws://127.0.0.1,sha256:00,", "a b,x,,"]
    scene.write(*rows, well=False)
    log = scene.proxy.log()
    for line in (2, 4, 5):
        assert re.search(rf"hosts\.csv:{line}: \S", log), f"the mistake in line {line} is not logged"
    assert not re.search(r"hosts\.csv:3: ", log)
    assert (scene.status("esxi1"), scene.status("esxi2"), scene.status("fine")) == (101, 101, 404)
    assert echoes(console)
    scene.as_before()
    assert scene.status("esxi2") == 101 and echoes(console)
    console.drop()


def test_a_file_that_is_gone_changes_nothing(scene: InventoryScene) -> None:
    line = "hosts.csv:1: no such file"
    before = scene.proxy.log().count(line)
    content = scene.file.read_text()
    scene.file.unlink()
    until(lambda: scene.proxy.log().count(line) > before, "it is logged", SECONDS)
    assert scene.status("esxi1") == 101
    read = scene.proxy.log().count("hosts.csv was read")
    scene.file.write_text(content)
    until(lambda: scene.proxy.log().count("hosts.csv was read") > read, "it is read again", SECONDS)
    assert scene.status("esxi1") == 101


def test_removed_hosts_end_their_consoles_where_it_is_set(scene: InventoryScene) -> None:
    """Consoles of a host with a new address end as well. Those of another listener's router continue."""
    ended = [scene.open_console("esxi1", "strict"), scene.open_console("esxi2", "strict")]
    kept = [scene.open_console("esxi1"), scene.open_console("esxi2")]
    stays = scene.open_console("esxi1", "strict")
    scene.write(scene.row("esxi1"), scene.row("esxi2", "esxi1"))
    assert ended[1].recv_close() == (1008, "host removed")
    assert echoes(ended[0]) and echoes(stays)
    scene.write(scene.row("esxi2"))
    assert ended[0].recv_close() == stays.recv_close() == (1008, "host removed")
    assert all(map(echoes, kept))
    for client in [*ended, *kept, stays]:
        client.drop()
    scene.as_before()


# Thousands of hosts

MANY = 5000


def address(number: int) -> str:
    """Return a loopback address of its own for a host."""
    return f"127.{1 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}"


class Fleet:
    """A proxy in front of thousands of names of one TLS host, each with an address of its own."""

    def __init__(self, proxy: Proxy, host: ScriptedUpstream, certificate: Certificate) -> None:
        self.proxy, self.host = proxy, host
        pin = f"sha256:{certificate.sha256}"
        self.rows = [
            f"esxi{number},{address(number)}:{host.port},{pin},site=s{number % 7} rack=r{number % 40}"
            for number in range(MANY)
        ]
        self.file = proxy.folder / "hosts.csv"

    def ask(self, name: str) -> tuple[Client, int]:
        """Return a client and the status of its opening."""
        client = Client(self.proxy.ports["one"], timeout=30)
        return client, client.ask(f"/h/{name}{TARGET}", ["binary"]).status

    def dial(self, number: int) -> None:
        """Open a console of a host and close it, as a user does."""
        client, status = self.ask(f"esxi{number}")
        assert status == 101, (number, client.received)
        client.send_close(1000)
        assert client.recv_close()[0] == 1000
        client.close()
        if number % 100 == 99:
            self.host.forget()

    def change(self, rows: Sequence[str]) -> float:
        """Replace the inventory; return the seconds until it was read."""
        before, began = self.proxy.log().count("hosts.csv was read"), time.monotonic()
        write(self.file, rows)
        until(lambda: self.proxy.log().count("hosts.csv was read") > before, "it is read", 3 * SECONDS)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def fleet(upstream_certificate: Certificate) -> Iterator[Fleet]:
    text = config.ini(
        config.template(verify="pin"),
        config.listener("one", None, router="fleet"),
        config.router(
            "fleet",
            "inventory",
            file="hosts.csv",
            template="esxi",
            locate=LOCATED["path"],
            allow="127.0.0.0/8",
        ),
        close_timeout="1s",
        session_log="errors",
        drain_timeout="1s",
    )
    with ScriptedUpstream(echo(), tls=upstream_certificate.server_context(), address="0.0.0.0") as host:
        proxy = Proxy(text)
        found = Fleet(proxy, host, upstream_certificate)
        write(found.file, found.rows)
        with proxy:
            yield found
            proxy.assert_clean()


def test_a_change_of_thousands_of_hosts_is_in_force_within_seconds(fleet: Fleet) -> None:
    """No key press waits for the file, and no console is dropped."""
    clients = [fleet.ask(f"esxi{number}")[0] for number in (0, MANY - 1)]
    assert all(map(echoes, clients))
    slowest, over = [0.0], threading.Event()

    def press() -> None:
        while not over.wait(0.01):
            began = time.monotonic()
            assert echoes(clients[0])
            slowest[0] = max(slowest[0], time.monotonic() - began)

    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        first = fleet.rows[1].replace("esxi1,", "new,")
        took = [fleet.change([first, *fleet.rows[2:]]), fleet.change(fleet.rows)]
        assert max(took) < SECONDS, took
    finally:
        over.set()
        pressing.join(30)
    assert slowest[0] < 1.0, slowest
    assert all(map(echoes, clients))
    for client in clients:
        client.close()


def test_a_removed_host_of_thousands_is_not_found_after_the_change(fleet: Fleet) -> None:
    fleet.change([fleet.rows[0].replace("esxi0,", "new,"), *fleet.rows[1:]])
    assert [fleet.ask(name)[1] for name in ("new", "esxi0", "esxi1")] == [101, 404, 101]
    fleet.change(fleet.rows)
    assert [fleet.ask(name)[1] for name in ("new", "esxi0", "esxi1")] == [404, 101, 101]


def test_versions_of_thousands_of_hosts_leave_no_memory_behind(fleet: Fleet) -> None:
    for number in range(4):
        fleet.change([*fleet.rows, fleet.rows[0].replace("esxi0,", f"new{number},")])
        if number == 1:
            before = fleet.proxy.own()
    assert fleet.proxy.own() - before < 12 * MIB
    fleet.change(fleet.rows)


def dialled(fleet: Fleet, warm: int, count: int) -> int:
    """Dial so many hosts, one after the other; return the bytes of growth since the first `warm` of them."""
    for number in range(warm):
        fleet.dial(number)
    before = fleet.proxy.own()
    for number in range(warm, count):
        fleet.dial(number)
    return fleet.proxy.own() - before


def test_hundreds_of_hosts_leave_memory_bounded(fleet: Fleet) -> None:
    """Their TLS settings and sessions are remembered, which is some KiB a host, and nothing else is."""
    scene = ProxyScene(fleet.proxy)
    scene.measure()
    assert dialled(fleet, 50, 500) < 16 * MIB
    scene.await_idle()


@pytest.mark.full
@pytest.mark.skipif(os.environ.get("ESXIPROXY_LONG") != "1", reason="takes minutes: ESXIPROXY_LONG=1")
def test_thousands_of_hosts_leave_memory_bounded(fleet: Fleet) -> None:
    """The process does not grow once it remembers its maximum number of hosts."""
    assert dialled(fleet, 1500, MANY) < 8 * MIB

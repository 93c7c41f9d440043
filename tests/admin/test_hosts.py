"""The hosts of upstreams, of inventories and of open consoles, with their use and their health."""

import json
import os

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.admin import resolved_names
from esxiproxy.app.preflight import load
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.core.session.drain import Drain, DrainKind, drain_key
from esxiproxy.core.session.reports import ADMIN_SPACE, WATCHED
from tests.admin.scene import Admin, Worker
from tests.state.world import MemoryWorld, SqliteWorld
from tests.support.config import ini, listener, router, template, upstream
from tests.support.outcome import result

FLEET = Upstream("fleet", "", 0, secure=True)


@pytest.fixture(params=[MemoryWorld, SqliteWorld])
def world(request, tmp_path):
    return request.param(tmp_path)


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Return the addresses of host names without a network."""
    found = {}
    monkeypatch.setattr(resolved_names, "_addresses", lambda name: found.get(name, ()))
    return found


@pytest.fixture
def config(tmp_path):
    (tmp_path / "hosts.csv").write_text(
        "name,address,max_connections\nesx-a,192.0.2.20,\nesx-b,wss://192.0.2.21:8443,10\nesx-c,c.example,\n"
    )
    path = tmp_path / "proxy.ini"
    path.write_text(
        ini(
            listener("secure", upstream=None, router="vms"),
            listener("plain", upstream="esxi1"),
            upstream("wss://192.0.2.10", "esxi1", more="max_connections = 8"),
            upstream("ws://h1.example:8080, ws://192.0.2.12", "pair"),
            template("fleet"),
            router("vms", "inventory", file="hosts.csv", template="fleet", locate="path:/h/{host}/"),
            max_connections=64,
        )
    )
    return load(path)


def take(worker, address, count, most=64):
    claim = SlotClaim("max_connections", f"upstream {address}", most)
    for number in range(count):
        assert (
            result(worker.state.take(f"slot {address} {number} {worker.state.instance_id}", [claim])) is None
        )


def hosts(admin, **parameters):
    return {each["host"]: each for each in admin.call("list_hosts", **parameters)["hosts"]}


def test_all_hosts_are_listed_with_their_section(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    worker.open(upstream=FLEET, host="esx-a", address="192.0.2.20")
    worker.open(upstream=FLEET, host="found.example", address="192.0.2.99")
    found = hosts(admin)
    assert {name: (each["upstream"], each["router"], each["address"]) for name, each in found.items()} == {
        "esxi1": ("esxi1", "", "192.0.2.10:443"),
        "pair": ("pair", "", "h1.example:8080, 192.0.2.12:80"),
        "esx-a": ("fleet", "vms", "192.0.2.20:443"),
        "esx-b": ("fleet", "vms", "192.0.2.21:8443"),
        "esx-c": ("fleet", "vms", "c.example:443"),
        "found.example": ("fleet", "", ""),
    }
    assert {name: each["limit"] for name, each in found.items()} == {
        **{"esxi1": 8, "pair": 128, "esx-a": 64, "esx-b": 10, "esx-c": 64, "found.example": 64},
    }
    assert found["esx-a"]["sessions"] == found["found.example"]["sessions"] == 1


def test_connections_of_all_machines_count_against_the_limit(world, config):
    left, right, admin = Worker(world), Worker(world, "right", run="run-2"), Admin(world, config=config)
    take(left, "192.0.2.10", 4), take(right, "192.0.2.10", 3), take(right, "192.0.2.21", 2)
    found = hosts(admin, sort="usage", order="desc")
    assert list(found)[:2] == ["esxi1", "esx-b"], "by how near they are to their limit"
    assert (found["esxi1"]["connections"], found["esx-b"]["connections"]) == (7, 2)
    assert found["esx-c"]["connections"] is None, "its address is not known"
    upstreams = {each["name"]: each["connections"] for each in admin.call("list_upstreams")["upstreams"]}
    assert upstreams == {"esxi1": 7, "pair": 0, "fleet": None}, "a template has no connections of its own"
    right.open(upstream=FLEET, host="esx-c", address="192.0.2.30")
    take(right, "192.0.2.30", 1)
    world.advance(2)
    assert hosts(admin)["esx-c"]["connections"] == 1


def test_a_host_with_a_name_has_the_use_and_the_health_of_its_addresses(world, config, names):
    worker, admin = Worker(world), Admin(world, config=config)
    names.update({"c.example": ("192.0.2.40", "192.0.2.41"), "h1.example": ("192.0.2.11",)})
    take(worker, "192.0.2.40", 3), take(worker, "192.0.2.41", 2)
    value = json.dumps(["192.0.2.11", 8080, True])
    result(worker.state.put("health", "192.0.2.11 8080", value, world.time_of_day() + 30))
    found = hosts(admin)
    assert found["esx-c"]["connections"] == 5 and found["pair"]["health"] == "up"


def test_the_health_is_that_of_the_checks(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    for host, port, is_up in (("192.0.2.10", 443, False), ("192.0.2.20", 443, True), ("192.0.2.21", 8443, 1)):
        value, expires = json.dumps([host, port, is_up]), world.time_of_day() + 30
        result(worker.state.put("health", f"{host} {port}", value, expires))
    result(worker.state.put("health", "junk", "[[", world.time_of_day() + 30))
    found = hosts(admin)
    assert (found["esxi1"]["health"], found["esx-a"]["health"]) == ("down", "up")
    assert found["esx-b"]["health"] == found["pair"]["health"] == "unknown"
    upstreams = {each["name"]: each for each in admin.call("list_upstreams")["upstreams"]}
    assert upstreams["esxi1"]["health"] == "down" and upstreams["fleet"]["health"] == "unknown"


def test_failures_and_drains_stand_at_their_host(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    worker.fail("UpstreamTimeout", "esx-a", upstream="fleet", detail="192.0.2.20:443 did not answer")
    world.advance(2)
    worker.fail("UpstreamRefused", "esx-a", upstream="fleet", detail="192.0.2.20:443 refuses")
    for drain in (Drain(DrainKind.HOST, "192.0.2.21"), Drain(DrainKind.UPSTREAM, "pair")):
        result(worker.state.put("drains", drain_key(drain), drain.value, float("inf")))
    world.advance(6)
    found = hosts(admin)
    assert found["esx-a"]["failures"] == 2
    assert found["esx-a"]["last_failure"] == "UpstreamRefused: 192.0.2.20:443 refuses"
    assert {name for name, each in found.items() if each["drained"]} == {"esx-b", "pair"}
    upstreams = {each["name"]: each for each in admin.call("list_upstreams")["upstreams"]}
    assert upstreams["fleet"]["failures"] == 2 and upstreams["pair"]["drained"] is True
    assert upstreams["fleet"]["addresses"] == [] and upstreams["pair"]["verify"] == "none"
    assert upstreams["esxi1"]["verify"] == "system" and upstreams["esxi1"]["limit"] == 8


def test_an_inventory_is_read_again_when_it_changes_and_stays_when_it_is_broken(world, config, tmp_path):
    admin, file = Admin(world, config=config), tmp_path / "hosts.csv"
    assert "esx-a" in hosts(admin)
    file.write_text("name,address\nesx-z,192.0.2.77\n")
    world.advance(2)
    assert "esx-z" in hosts(admin) and "esx-a" not in hosts(admin)
    file.write_text("name,address\nesx-z\nwhat is this\n")
    world.advance(2)
    assert "esx-z" in hosts(admin)
    os.unlink(file)
    world.advance(2)
    assert "esx-z" in hosts(admin)


def test_the_hosts_of_the_configuration_are_read_without_the_consoles(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    worker.open(upstream=FLEET, host="found.example", address="192.0.2.99")
    take(worker, "192.0.2.10", 5)
    admin.state.sessions = None  # a call would fail
    rows = result(Deferred.fromCoroutine(admin.live.configured_hosts()))
    assert [row.known.name for row in rows] == ["esxi1", "pair", "esx-a", "esx-b", "esx-c"]
    assert rows[0].connections == 5 and rows[0].known.limit == 8


def test_lists_without_figures_make_no_process_report_them(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    worker.open()
    for name in ("list_hosts", "list_upstreams", "list_listeners", "list_drains", "status", "list_failures"):
        admin.call(name)
    assert result(worker.state.get(ADMIN_SPACE, WATCHED)) is None
    admin.call("list_sessions")
    assert result(worker.state.get(ADMIN_SPACE, WATCHED)) is not None


def test_thousands_of_hosts_are_counted_in_few_calls(world, tmp_path, config):
    lines = [f"esx{number},10.{number >> 8}.{number & 255}.1" for number in range(5000)]
    (tmp_path / "hosts.csv").write_text("\n".join(["name,address", *lines]) + "\n")
    admin = Admin(world, config=config)
    calls, in_use = [], admin.state.in_use
    admin.state.in_use = lambda names: calls.append(len(names)) or in_use(names)
    found = admin.call("list_hosts", filter="esx4999", limit=10)
    assert (found["total"], found["matching"]) == (5002, 1) and max(calls) <= 500 and len(calls) <= 12

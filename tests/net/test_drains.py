"""Drains of a proxy, a listener, an upstream and a host: the new consoles that they refuse."""

import json
from dataclasses import replace

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.routing import Route
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.core.session.connection_limits import ConnectionLimits
from tests.net.drain_objects import GET, KINDS, OTHERS, every_kind, fleet, is_refused
from tests.net.drain_scene import DAY, World, closes_of
from tests.net.opening_scene import fields, status
from tests.net.scene import UPSTREAM, frames, up


@every_kind
def test_a_drained_object_takes_no_new_console_and_a_running_one_continues(what):
    process = World().process()
    running = process.open()
    process.drain(*what)
    assert is_refused(process)
    running.send(up(2, b"still here"))
    process.advance(15)
    assert (True, 2, b"still here") in frames(process.hosts[0].received.partition(b"\r\n\r\n")[2])
    assert closes_of(running) == [] and not running.ended
    process.undrain(*what)
    assert not is_refused(process)


@every_kind
def test_the_client_learns_that_it_drains_and_the_log_more(what):
    process = World().process()
    process.drain(*what, by="alice", reason="new memory")
    client = process.begin()
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert body == b"503 Service Unavailable: The proxy is draining.\n"
    assert (b"Retry-After", b"5") in fields(client.received)
    assert b"esxi1" not in head.lower() and b"alice" not in client.received
    (record,) = process.recorder.records
    subject = {"proxy": "proxy on proxy1", "listener": "listener one on proxy1"}.get(what[0])
    named = subject or f"{what[0]} {what[1].lower().removeprefix('::ffff:')}"
    assert record.detail == f"{named} is drained by alice: new memory"


def test_a_script_that_asks_for_json_gets_the_name_of_the_error():
    process = World().process()
    process.drain("proxy")
    client = process.begin("one", b"Accept: application/json")
    answer = json.loads(client.received.partition(b"\r\n\r\n")[2])
    assert (answer["error"], answer["message"]) == ("Draining", "The proxy is draining.")


@pytest.mark.parametrize("what", OTHERS)
def test_other_objects_take_consoles_as_before(what):
    process = World().process()
    process.drain(*what)
    assert not is_refused(process)


def test_a_drained_listener_leaves_the_others_alone():
    process = World().process()
    process.listener("two")
    process.drain("listener", "two")
    assert is_refused(process, "two") and not is_refused(process, "one")


# Several addresses


def test_of_several_addresses_those_that_are_not_drained_are_used():
    process = World().process(route=fleet("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    process.drain("host", "192.0.2.1")
    process.drain("host", "192.0.2.3")
    process.connector.silent.add("192.0.2.2")
    process.begin()
    process.advance(5)
    assert process.connector.dialled_hosts == ["192.0.2.2"]


def test_failover_continues_between_the_remaining_addresses():
    process = World().process(route=fleet("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    process.drain("host", "192.0.2.2")
    process.connector.silent.add("192.0.2.1")
    client = process.begin()
    process.advance(1.2)
    process.accept()
    assert process.connector.dialled_hosts == ["192.0.2.1", "192.0.2.3"]
    assert client.received.startswith(b"HTTP/1.1 101 ")


def test_an_address_that_is_drained_during_the_race_is_not_dialled_any_more():
    process = World().process(route=fleet("192.0.2.1", "192.0.2.2"))
    process.connector.silent.add("192.0.2.1")
    process.begin()
    process.drain("host", "192.0.2.2")
    process.advance(5)
    assert process.connector.dialled_hosts == ["192.0.2.1"]


def test_addresses_that_are_drained_while_the_console_waits_for_their_slots_are_not_named_to_the_client():
    limits = ConnectionLimits(max_connections=1, queue_timeout=30.0)
    process = World().process(route=fleet("192.0.2.1"), connection_limits=limits)
    running = [process.open()]
    process.router.answer = fleet("192.0.2.2")
    running.append(process.open())
    process.router.answer = fleet("192.0.2.1", "192.0.2.2")
    client = process.begin()
    process.advance(1.2)
    assert client.received == b"" and process.proxy.admission.waiting == 2
    process.drain("host", "192.0.2.1", by="alice")
    process.drain("host", "192.0.2.2")
    for each in running:
        each.reset()
    process.advance(6)
    assert client.received.endswith(b"503 Service Unavailable: The proxy is draining.\n")
    (record,) = [record for record in process.recorder.records if record.error == "Draining"]
    assert "host 192.0.2.1 is drained by alice" in record.detail and "192.0.2.2" in record.detail


def test_without_an_address_that_is_left_the_console_is_refused():
    process = World().process(route=fleet("192.0.2.1", "192.0.2.2"))
    process.drain("host", "192.0.2.1")
    process.drain("host", "192.0.2.2")
    assert is_refused(process)
    assert process.recorder.records[-1].detail == "host 192.0.2.1 is drained: no reason was given"


def test_the_name_of_an_address_drains_it_and_the_other_is_used():
    process = World().process(route=fleet("a.example.com", "b.example.com"))
    process.connector.names.known = {"a.example.com": ["192.0.2.1"], "b.example.com": ["192.0.2.2"]}
    process.drain("host", "A.Example.com.")
    process.begin()
    assert process.connector.dialled_hosts == ["192.0.2.2"]


def test_all_names_drained_need_no_look_up():
    process = World().process(route=fleet("a.example.com", "b.example.com"))
    process.drain("host", "a.example.com")
    process.drain("host", "b.example.com")
    assert is_refused(process) and process.connector.names.asked == []


def test_a_drained_address_is_found_behind_a_name():
    process = World().process(route=fleet("a.example.com"))
    process.connector.names.known = {"a.example.com": ["192.0.2.1", "192.0.2.2"]}
    process.drain("host", "192.0.2.1")
    process.begin()
    assert process.connector.dialled_hosts == ["192.0.2.2"]
    process.drain("host", "192.0.2.2")
    assert is_refused(process)


def test_a_name_that_is_not_found_fails_as_without_drains():
    process = World().process(route=fleet("gone.example.com"))
    process.drain("host", "192.0.2.1")
    assert status(process.begin().received) == 502
    assert process.recorder.records[-1].error == "UpstreamUnresolved"


# Slots, marks and tickets


class Mark:
    claims = (OnceClaim("links: 1", DAY + 3600.0),)


@pytest.mark.parametrize(
    "what", [KINDS["an upstream"], KINDS["a host by its name"], KINDS["a host by its address"]]
)
def test_a_link_that_works_once_is_not_used_up_and_no_claim_is_taken(what):
    world = World()
    process = world.process(route=replace(Route.to(UPSTREAM), claims=Mark.claims, link="link-1"))
    taken = []
    take = process.state.take
    process.state.take = lambda slot, claims: taken.extend(claims) or take(slot, claims)
    process.drain(*what)
    assert is_refused(process)
    assert taken == [] and world.memory.marks == {} and not any(world.memory.slots.values())
    process.undrain(*what)
    process.open()
    assert [claim.name for claim in taken if isinstance(claim, OnceClaim)] == ["links: 1"]


def test_a_link_to_a_name_whose_address_is_drained_is_not_used_up():
    world = World()
    process = world.process(route=fleet("a.example.com", claims=Mark.claims, link="link-1"))
    process.connector.names.known = {"a.example.com": ["192.0.2.1"]}
    process.drain("host", "192.0.2.1")
    assert is_refused(process) and world.memory.marks == {}


@every_kind
def test_no_ticket_is_asked_for(what):
    asked = []

    async def acquire():
        asked.append("ticket")
        return Route.to(UPSTREAM)

    process = World().process(route=replace(Route.to(UPSTREAM), acquire=acquire))
    process.drain(*what)
    assert is_refused(process) and asked == []
    process.undrain(*what)
    process.open()
    assert asked == ["ticket"]


def test_a_ticket_for_a_drained_host_opens_no_console():
    async def acquire():
        return fleet("192.0.2.99")

    process = World().process(route=replace(Route.to(UPSTREAM), acquire=acquire))
    process.drain("host", "192.0.2.99")
    assert is_refused(process)
    assert not process.proxy.admission.connections


@every_kind
def test_a_console_that_waits_for_a_slot_is_refused_when_its_turn_comes(what):
    limits = ConnectionLimits(max_connections=1, queue_timeout=30.0)
    process = World().process(connection_limits=limits)
    first = process.open()
    second = process.begin()
    assert second.received == b"" and process.proxy.admission.waiting == 1
    process.drain(*what)
    first.reset()
    process.advance(6)
    assert status(second.received) == 503 and process.connector.dialled_hosts == ["192.0.2.10"]
    assert {record.error for record in process.recorder.records} == {"ClientLost", "Draining"}
    assert not process.proxy.admission.connections


def test_a_console_that_is_drained_during_the_decision_is_refused():
    world = World()
    answer = Deferred()
    process = world.process()
    process.router.answer = answer
    client = process.begin()
    process.drain("listener", "one")
    answer.callback(replace(Route.to(UPSTREAM), claims=Mark.claims))
    process.pump()
    assert status(client.received) == 503 and world.memory.marks == {}


def test_a_session_slot_is_free_after_the_refusal():
    world = World()
    process = world.process(connection_limits=ConnectionLimits(max_sessions=1))
    process.drain("host", "esxi1")
    for _ in range(3):
        assert is_refused(process)
    assert not any(world.memory.slots.values())


# Plain HTTP and health checks

READY = b"GET /readyz HTTP/1.1\r\nHost: proxy.example\r\n\r\n"


@every_kind
def test_plain_requests_are_forwarded_as_before(what):
    process = World().process(policy=ListenerPolicy(Http.FORWARD))
    process.drain(*what)
    client = process.send(GET)
    process.hosts[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    process.pump()
    assert status(client.received) == 200
    assert is_refused(process)


@every_kind
def test_a_plain_request_to_a_listener_for_consoles_learns_why(what):
    process = World().process()
    process.drain(*what)
    assert status(process.send(GET).received) == 503
    process.undrain(*what)
    assert status(process.send(GET).received) == 426


@pytest.mark.parametrize(
    ("what", "ready"),
    [(("proxy",), 503), (("listener", "one"), 503), (("listener", "two"), 200), (("host", "esxi1"), 200)],
)
def test_the_health_check_of_a_drained_listener_says_so(what, ready):
    process = World().process(policy=ListenerPolicy(health=b"/readyz"))
    process.drain(*what)
    answer = process.send(READY).received
    assert status(answer) == ready and answer.endswith(b"draining\n" if ready == 503 else b"ready\n")
    process.undrain(*what)
    assert status(process.send(READY).received) == 200

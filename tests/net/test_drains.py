"""Drains of a proxy, a listener, an upstream and a host: refusals, continuing consoles, and their end."""

import asyncio
import json
from dataclasses import replace
from unittest.mock import Mock

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Destination, Identity, Route, TCPAddress, Upstream
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.core.session.connection_limits import ConnectionLimits
from tests.net.drain_scene import DAY, BrokenState, World, closes_of
from tests.net.opening_scene import fields, status
from tests.net.scene import UPSTREAM, close, frames, up
from tests.support.logs import process_log

FLEET = Upstream("fleet", "", 443, False, failover_delay=1.0)


def fleet(*hosts, name="Rack 4", template=FLEET, **more):
    addresses = tuple(TCPAddress(host, 443) for host in hosts)
    return Route(Destination(addresses, False, Identity(), name, template), **more)


KINDS = {
    "the proxy": ("proxy", ""),
    "a listener": ("listener", "one"),
    "an upstream": ("upstream", "esxi1"),
    "a host by its name": ("host", "ESXi1"),
    "a host by its address": ("host", "::ffff:192.0.2.10"),
}
every_kind = pytest.mark.parametrize("what", KINDS.values(), ids=KINDS)


def is_refused(process, listener="one"):
    """Open a console, and return whether it is refused because of a drain and nothing was dialled."""
    dialled, asked = len(process.connector.dialled_hosts), len(process.recorder.records)
    client = process.begin(listener)
    if len(process.connector.dialled_hosts) > dialled:
        assert client.received == b""
        client.reset()
        process.pump()
        return False
    assert status(client.received) == 503, client.received
    assert process.recorder.records[asked].error == "Draining"
    return True


@every_kind
def test_what_is_drained_takes_no_new_console_and_a_running_one_goes_on(what):
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


OTHERS = [("listener", "two"), ("upstream", "esxi2"), ("host", "esxi2"), ("host", "192.0.2.1")]


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


def test_failover_goes_on_between_those_that_are_left():
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

GET = b"GET /ui/ HTTP/1.1\r\nHost: proxy.example\r\n\r\n"
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


# The end of running consoles


@every_kind
def test_at_the_end_running_consoles_get_a_close_1001_with_the_reason(what):
    process = World().process()
    running = process.open()
    process.drain(*what, end=DAY + 10, reason="Wartung " + "☕" * 60)
    process.advance(9)
    assert closes_of(running) == []
    process.advance(2)
    (sent,) = closes_of(running)
    assert sent == close(1001, ("Wartung " + "☕" * 38).encode())
    assert frames(process.hosts[0].received.partition(b"\r\n\r\n")[2]) == [(True, 8, sent)]
    process.advance(6)
    (record,) = process.recorder.records
    assert (record.error, record.close_code, record.ended_by) == ("Draining", 1001, "proxy")


def test_without_a_reason_the_close_says_that_it_drains():
    process = World().process()
    running = process.open()
    process.drain("proxy", end=DAY)
    process.pump()
    assert closes_of(running) == [close(1001, b"draining")]


@pytest.mark.parametrize("what", OTHERS)
def test_consoles_of_other_objects_do_not_end(what):
    process = World().process()
    running = process.open()
    process.drain(*what, end=DAY)
    process.advance(3)
    assert closes_of(running) == []


def test_only_the_console_on_the_drained_address_ends():
    route = fleet("192.0.2.1", "192.0.2.2", template=replace(FLEET, failover_delay=1.0))
    process = World().process(route=route)
    first = process.open()
    process.connector.silent.add("192.0.2.1")
    second = process.begin()
    process.advance(1.2)
    process.accept()
    assert process.connector.dialled_hosts == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
    process.drain("host", "192.0.2.1", end=DAY)
    process.advance(2)
    assert closes_of(first) == [close(1001, b"draining")]
    assert not second.ended and b"draining" not in second.received


def test_plain_requests_do_not_end():
    process = World().process(policy=ListenerPolicy(Http.FORWARD))
    client = process.send(GET)
    process.drain("proxy", end=DAY)
    process.advance(2)
    process.hosts[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    process.pump()
    assert status(client.received) == 200


def test_a_handshake_that_is_under_way_is_refused_at_the_end():
    process = World().process()
    client = process.begin()
    process.drain("host", "192.0.2.10", end=DAY + 2)
    process.advance(3)
    assert status(client.received) == 503 and b"192.0.2.10" not in client.received
    assert process.recorder.records[-1].error == "Draining"


def test_a_console_that_opens_after_the_end_ends_at_once():
    """At the end, two addresses are being tried, so that it is on neither of them yet."""
    process = World().process(route=fleet("192.0.2.1", "192.0.2.2"))
    process.connector.is_slow = True
    client = process.begin()
    process.drain("host", "192.0.2.1", end=DAY)
    process.connector.dial_all()
    process.pump()
    process.accept(process.hosts[0])
    process.advance(0.2)
    assert client.received.startswith(b"HTTP/1.1 101 ") and client.received.endswith(close(1001, b"draining"))


def test_each_console_is_closed_once():
    process = World().process()
    running = process.open()
    process.drain("host", "esxi1", end=DAY + 1)
    with process_log() as log:
        process.advance(5)
    assert len(closes_of(running)) == 1 and str(log).count("is ended, since") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
def test_a_console_that_cannot_be_ended_does_not_keep_the_others(error):
    process = World().process()
    broken, running = process.open(), process.open()
    first = next(iter(process.proxy.sessions))
    first.end = Mock(side_effect=error)
    with process_log() as log:
        process.drain("host", "esxi1", end=DAY)
        process.pump()
    assert closes_of(running) == [close(1001, b"draining")] and closes_of(broken) == []
    assert error.__name__ in str(log)
    process.undrain("host", "esxi1")
    process.advance(1.1)
    assert not is_refused(process)


def test_a_drain_that_gets_a_new_end_ends_consoles_then():
    process = World().process()
    running = process.open()
    process.drain("host", "esxi1")
    process.advance(3)
    process.drain("host", "esxi1", end=DAY + 10)
    process.drain("host", "esxi1", end=DAY + 20)
    process.advance(9)
    assert closes_of(running) == []
    process.advance(10)
    assert closes_of(running) == [close(1001, b"draining")]


def test_an_undrained_host_ends_nothing():
    process = World().process()
    running = process.open()
    process.drain("host", "esxi1", end=DAY + 10)
    process.undrain("host", "esxi1")
    process.advance(15)
    assert closes_of(running) == []


# Several processes


def just_undrained_elsewhere():
    """Return a process whose drain another one has removed a moment before its end, and its console."""
    world = World()
    state = BrokenState(world.clock, world.memory)
    process, other = world.process(state=state), world.process()
    running = process.open()
    other.drain("host", "esxi1", end=DAY + 10)
    process.advance(9.5)
    assert is_refused(process)
    other.undrain("host", "esxi1")
    return process, running


def test_a_drain_that_another_process_has_just_removed_ends_nothing():
    process, running = just_undrained_elsewhere()
    process.advance(5)
    assert closes_of(running) == [] and not is_refused(process)


def test_another_request_ends_nothing_before_the_drains_are_read():
    process, running = just_undrained_elsewhere()
    process.state.late = Deferred()
    process.advance(1)
    process.drain("host", "other")
    late, process.state.late = process.state.late, None
    late.callback(None)
    process.advance(5)
    assert closes_of(running) == []


def test_a_drain_that_ends_at_once_needs_no_read():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    running = process.open()
    state.late = Deferred()
    process.advance(1)
    state.late, late = None, state.late
    process.drain("host", "esxi1", end=DAY)
    process.advance(0.2)
    assert len(closes_of(running)) == 1
    late.callback(None)


def test_the_end_waits_for_a_slow_read_and_comes_after_it():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    running = process.open()
    process.drain("host", "esxi1", end=DAY + 5)
    process.advance(4.5)
    state.late = late = Deferred()
    process.advance(2)
    assert closes_of(running) == []
    state.late = None
    late.callback(None)
    process.advance(0.2)
    assert len(closes_of(running)) == 1


@every_kind
def test_another_process_of_the_master_drains_within_a_second(what):
    world = World()
    first, second = world.process(), world.process()
    running = second.open()
    first.drain(*what, end=DAY + 30)
    assert is_refused(first)
    second.advance(1.1)
    assert is_refused(second)
    assert second.proxy.drains.drains() == first.proxy.drains.drains()
    second.advance(30)
    assert len(closes_of(running)) == 1
    second.undrain(*what)
    first.advance(1.1)
    assert not is_refused(first)


@every_kind
def test_a_process_that_starts_again_is_drained_before_its_first_console(what):
    world = World()
    first = world.process()
    first.drain(*what)
    first.stop()
    again = world.process()
    assert is_refused(again)


@pytest.mark.parametrize("other", [ProcessIdentity("proxy1", "run-2"), ProcessIdentity("proxy2", "run-2")])
def test_a_listener_is_drained_for_its_machine_and_its_master_only(other):
    world = World()
    first, second = world.process(), world.process(other)
    first.drain("listener", "one")
    first.drain("proxy")
    second.advance(1.1)
    assert not is_refused(second) and is_refused(first)
    assert len(second.proxy.drains.drains()) == 2
    assert second.undrain("listener", "one") == []
    second.advance(1.1)
    assert is_refused(first)


@pytest.mark.parametrize("what", [("upstream", "esxi1"), ("host", "esxi1")])
def test_a_host_is_drained_on_all_machines(what):
    world = World()
    first, second = world.process(), world.process(ProcessIdentity("proxy2", "run-2"))
    first.drain(*what)
    second.advance(1.1)
    assert is_refused(second)


# The state


def test_while_the_state_is_unreachable_the_last_drains_hold():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process, other = world.process(state=state), world.process()
    running = process.open()
    other.drain("host", "esxi1", end=DAY + 10)
    process.advance(1.1)
    state.is_broken = True
    other.undrain("host", "esxi1")
    with process_log() as log:
        process.advance(5)
        assert is_refused(process)
        process.advance(5)
        assert len(closes_of(running)) == 1, "the end needs no state"
        state.is_broken = False
        process.advance(1.1)
    assert not is_refused(process)
    assert str(log).count("drains cannot be read from the shared state") == 1
    assert str(log).count("drains are read from the shared state again") == 1


def test_a_drain_that_cannot_be_stored_does_not_hold():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    state.is_broken = True
    with pytest.raises(StateUnavailable):
        process.drain("host", "esxi1")
    assert not is_refused(process)


def test_the_first_console_waits_until_the_drains_are_read():
    world = World()
    world.process().drain("listener", "one")
    state = BrokenState(world.clock, world.memory)
    state.late = late = Deferred()
    process = world.process(state=state)
    first, lost = process.begin(), process.begin()
    assert (first.received, process.router.asked) == (b"", 0)
    lost.reset()
    process.pump()
    state.late = None
    late.callback(None)
    process.pump()
    assert status(first.received) == 503 and process.router.asked == 0
    assert [record.error for record in process.recorder.records] == ["ClientLost", "Draining"]


def test_without_an_answer_the_first_console_is_admitted_after_some_seconds():
    world = World()
    state = BrokenState(world.clock, world.memory)
    state.late = Deferred()
    process = world.process(state=state)
    process.begin()
    process.advance(4.5)
    assert process.connector.dialled_hosts == []
    process.advance(1)
    assert process.connector.dialled_hosts == ["192.0.2.10"]


def test_a_state_that_cannot_be_read_refuses_no_console_by_itself():
    world = World()
    state = BrokenState(world.clock, world.memory)
    state.is_broken = True
    process = world.process(state=state)
    process.begin()
    assert process.connector.dialled_hosts == ["192.0.2.10"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
def test_any_exception_of_a_read_is_logged_and_the_last_known_drains_end_their_consoles(error, monkeypatch):
    process = World().process()
    running = process.open()
    process.drain("host", "esxi1", end=DAY + 3)
    with monkeypatch.context() as broken, process_log() as log:
        broken.setattr(process.proxy.drains._table, "items", Mock(side_effect=error))
        process.advance(4.5)
    assert closes_of(running) == [close(1001, b"draining")]
    assert any("the last known ones hold" in line for line in log)
    process.undrain("host", "esxi1")
    process.advance(1.1)
    assert not is_refused(process)


def test_a_read_that_began_before_a_drain_does_not_undo_it():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    state.late = late = Deferred()
    process.advance(1)
    state.late = None
    process.drain("host", "esxi1")
    state.items, items = (lambda *_args: Deferred()), state.items
    late.callback(None)
    state.items = items
    assert is_refused(process)


BROKEN = ["{", '{"kind": "cloud", "name": "a", "since": 1}', '{"kind": "host", "since": 1}']


def test_an_invalid_value_is_ignored_and_logged_once():
    world = World()
    process = world.process()
    process.drain("host", "esxi1")
    with process_log() as log:
        for number, value in enumerate(BROKEN):
            process.state.put("drains", f"broken {number}", value, DAY + 1e6)
        process.advance(5)
    assert is_refused(process) and len(process.proxy.drains.drains()) == 1
    assert str(log).count("a drain in the shared state is ignored") == len(BROKEN)


def test_more_drains_than_a_page_hold():
    world = World()
    first, second = world.process(), world.process()
    first.drain("host", "other0")
    found = []
    first.state.items("drains", "", 9).addCallback(found.extend)
    ((key, value),) = found
    for number in range(1, 1100):
        name = f"other{number}"
        first.state.put("drains", key.replace("other0", name), value.replace("other0", name), DAY + 1e6)
    first.drain("host", "zzz")
    second.router.answer = fleet("192.0.2.1", name="ZZZ")
    second.advance(1.1)
    assert is_refused(second) and len(second.proxy.drains.drains()) == 1101


def test_at_rest_nothing_is_parsed_again():
    world = World()
    process = world.process()
    process.drain("host", "esxi1")
    process.advance(2)
    before = process.proxy.drains.current
    process.advance(5)
    assert process.proxy.drains.current is before


def test_no_secret_is_logged():
    process = World().process()
    with process_log() as log:
        process.drain("host", "esxi1", reason="see wss://esxi1/ticket/abcdef0123", by="token=geheim")
    assert "abcdef0123" not in str(log) and "geheim" not in str(log)
    assert "host esxi1 is drained" in str(log)


def test_a_process_that_has_stopped_has_no_timers():
    world = World()
    process = world.process()
    process.drain("host", "esxi1", end=DAY + 1000)
    process.stop()
    assert world.clock.getDelayedCalls() == []


def test_a_read_that_is_under_way_at_the_stop_is_given_up():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    state.late = Deferred()
    process.advance(1.1)
    with process_log() as log:
        process.stop()
    assert "drains" not in str(log) and world.clock.getDelayedCalls() == []

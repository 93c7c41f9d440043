"""The end of a drain, at which running consoles get a Close with the reason."""

import asyncio
from dataclasses import replace
from unittest.mock import Mock

import pytest

from esxiproxy.core.http.policy import Http, ListenerPolicy
from tests.net.drain_objects import FLEET, GET, OTHERS, every_kind, fleet, is_refused
from tests.net.drain_scene import DAY, World, closes_of
from tests.net.opening_scene import status
from tests.net.scene import close, frames
from tests.support.logs import process_log


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

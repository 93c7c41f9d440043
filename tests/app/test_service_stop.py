"""The service of a configuration: retirement, stop, abort and what they leave."""

from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

import esxiproxy.app.extra_services
from tests.app.service_world import ONE, PAGE, TWO, World, beside, lines
from tests.net.scene import close, frame, frames, opening
from tests.support import config


def test_a_retiring_service_closes_its_ports_and_waits_for_the_last_console(world):
    client, host = world.console()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(3600)
    assert not done and not world.ports
    assert world.carries(client, host)
    world.leaves(client, host)
    world.advance(1)
    assert done == [None]


def test_a_retiring_service_serves_its_open_connections(world):
    """A connection that has sent no request yet is served before the retirement ends."""
    early = world.connect()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    assert not done
    early.send(opening())
    world.pump()
    assert world.dialled() == "192.0.2.10" and not early.received
    early.reset()
    world.advance(1)
    assert done == [None]


def test_a_retiring_service_closes_idle_connections(tmp_path):
    world = World(tmp_path, ONE + "http = forward\n")
    client = world.connect()
    world.page(client)
    assert not client.ended
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    assert done == [None] and client.saw_fin


@pytest.mark.parametrize("listener", ["", "proxy_protocol = yes\n"])
def test_a_retiring_service_waits_for_a_request_that_has_begun(tmp_path, listener):
    """The request may be the second one, or begin with a PROXY header."""
    world = World(tmp_path, ONE + "http = forward\n" + listener)
    client = world.connect()
    rest = PAGE
    if listener:
        rest = b"PROXY UNKNOWN\r\n" + PAGE
    else:
        world.page(client)
    client.send(rest[:10])
    world.pump()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    assert not done
    client.send(rest[10:])
    world.pump()
    world.answers()
    assert client.received.endswith(b"ok")
    world.advance(1)
    assert done == [None] and client.saw_fin


def test_after_worker_shutdown_timeout_the_rest_is_closed_with_1001(tmp_path):
    world = World(tmp_path, config.ini(ONE, worker_shutdown_timeout="1h"))
    client, host = world.console()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    world.advance(3590)
    assert not client.received
    world.advance(10)
    assert frames(client.received) == [(True, 8, close(1001, b"the proxy is shutting down"))]
    world.advance(7)
    assert done == [None] and client.ended == host.ended == "aborted"


# At once


def test_a_drain_that_is_to_end_at_once_does_and_the_records_are_written(tmp_path):
    world = World(tmp_path, config.ini(ONE, drain_timeout="1h", access_log="access.log"))
    client, host = world.console()
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(10)
    assert not stopped
    world.service.abort()
    world.pump()
    world.advance(1)
    assert stopped == [None] and client.ended == host.ended == "aborted"
    assert len(lines(tmp_path / "access.log")) == 1
    world.advance(3)
    assert not world.reactor.getDelayedCalls()


def test_the_end_at_once_waits_for_no_plugin(tmp_path, plugins):
    world = World(tmp_path, beside("a", drain_timeout="1h"))
    plugins["a"][0].stopping = Deferred()
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(100)
    assert not stopped
    world.service.abort()
    world.advance(3)
    assert stopped == [None]


def test_a_plugin_that_never_stops_is_not_waited_for_beyond_the_time_of_the_drain(tmp_path, plugins):
    text = beside("a", drain_timeout="1h", access_log="access.log")
    world = World(tmp_path, text)
    plugins["a"][0].stopping = Deferred()
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(3600)
    assert not stopped
    with capturedLogs() as told:
        world.advance(20)
    assert stopped == [None] and not world.service._extra_services._access_log.running
    errors = [event["log_format"] for event in told if event["log_level"].name == "error"]
    assert (
        len(errors) == 2
        and "timed out waiting for {service!r} to stop; the shutdown continues without it" in errors
    )
    assert not world.reactor.getDelayedCalls()


def test_a_service_that_fails_to_stop_does_not_keep_the_rest(tmp_path, plugins, monkeypatch):
    told = []
    log = SimpleNamespace(failure=lambda text, **_: told.append(text))
    monkeypatch.setattr(esxiproxy.app.extra_services.ExtraServices, "_log", log)
    world = World(tmp_path, beside("a", access_log="access.log"))
    failing = Deferred()
    failing.errback(RuntimeError("broken"))
    plugins["a"][0].stopping = failing
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(1)
    assert stopped == [None] and len(told) == 1
    assert not world.service._extra_services._access_log.running


def test_a_health_check_in_a_drain_is_a_503_and_leaves_no_record(tmp_path):
    world = World(tmp_path, config.ini(ONE, "health = /readyz\n", access_log="access.log", max_sessions=1))
    probe = b"GET /readyz HTTP/1.0\r\n\r\n"
    early, late = world.connect(), world.connect()
    with capturedLogs() as told:
        early.send(probe)
        world.pump()
        assert early.received.startswith(b"HTTP/1.1 200 OK\r\n")
        world.service.stopService()
        world.advance(0.1)  # the ports are closed
        late.send(probe)
        world.pump()
        assert late.received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        for wire in (early, late):
            wire.close()
        world.advance(1)
    assert not world.service.running and not len(world.service.proxy.sessions)
    assert not [event for event in told if "SessionLog" in str(event["log_namespace"])]
    assert (tmp_path / "access.log").read_bytes() == b""


def test_all_ports_are_closed_while_the_sessions_stay_open(tmp_path):
    world = World(tmp_path, ONE + "health = /readyz\n" + TWO)
    client, host = world.console()
    closed = []
    world.service.close_ports().addCallback(closed.append)
    world.advance(0.1)
    assert closed and world.ports == [] and world.service.draining_ports == []
    host.send(frame(2, b"still here"))
    world.pump()
    assert b"still here" in client.received
    client.close()
    world.service.stopService()
    world.advance(1)
    assert not world.service.running

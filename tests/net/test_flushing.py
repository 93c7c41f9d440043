"""A drain ends when the responses are acknowledged, or at once when it is aborted."""

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.errors import Draining, RouteNotFound
from esxiproxy.core.session.record import Kind
from esxiproxy.net.sessions import CHECK_INTERVAL, Sessions
from tests.net.http_scene import OK, HttpScene, get
from tests.net.scene import Scene, opening
from tests.test_proxy import Embedded

BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
CLOSES = b"Connection: close"


class Connection:
    """A connection that flushes its response, and counts the calls of ``answered``."""

    def __init__(self):
        self.has_its_answer = self.aborted = False
        self.asked = 0

    def is_flushed(self):
        self.asked += 1
        return self.has_its_answer

    def abort(self):
        self.aborted = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock):
    return Sessions([], clock)


def test_connections_are_not_checked_while_no_drain_waits(sessions, clock):
    connection = Connection()
    sessions.wait_for_flush(connection)
    clock.advance(100)
    assert not connection.asked and not clock.getDelayedCalls()


def test_a_connection_is_checked_until_its_response_is_acknowledged(sessions, clock):
    first, second = Connection(), Connection()
    sessions.wait_for_flush(first)
    sessions.wait_for_flush(second)
    empty = sessions.when_empty()
    clock.advance(CHECK_INTERVAL)
    first.has_its_answer = True
    for _ in range(3):
        clock.advance(CHECK_INTERVAL)
    assert not empty.called and (first.asked, second.asked) == (2, 4)
    second.has_its_answer = True
    clock.advance(CHECK_INTERVAL)
    assert empty.called and not clock.getDelayedCalls()


def test_a_cancelled_wait_leaves_no_timer(sessions, clock):
    sessions.wait_for_flush(Connection())
    empty = sessions.when_empty()
    empty.addErrback(lambda _cancelled: None)
    empty.cancel()
    assert not clock.getDelayedCalls()


def test_connections_are_not_checked_while_a_session_runs():
    scene, connection = Scene().open(), Connection()
    scene.sessions.wait_for_flush(connection)
    scene.sessions.when_empty()
    scene.advance(3)
    assert not connection.asked


def test_an_abort_waits_for_no_answer(sessions, clock):
    connection = Connection()
    sessions.wait_for_flush(connection)
    empty = sessions.when_empty()
    sessions.abort(Draining("at once"))
    assert connection.aborted and empty.called and not clock.getDelayedCalls()
    sessions.wait_for_flush(Connection())
    assert sessions.when_empty().called, "nor for one that comes later"
    sessions.resume()
    sessions.wait_for_flush(Connection())
    assert not sessions.when_empty().called


# The connections themselves


def test_a_client_with_its_response_does_not_delay_a_drain():
    scene = HttpScene(close_timeout=5)
    scene.client.block()
    scene.ask(get(b"/", CLOSES))
    scene.answer(OK)
    assert scene.record.status == 200
    scene.sessions.drain()
    empty = scene.sessions.when_empty()
    scene.advance(3)
    assert not empty.called, "nothing of the answer has arrived"
    scene.client.unblock()
    scene.pump()
    scene.clock.advance(CHECK_INTERVAL)
    assert empty.called and scene.client.received.endswith(b"ok") and not scene.client.ended


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_drain_does_not_end_between_the_record_and_the_last_write(pipelined):
    """The last response and its record are written, and the connection is not half-closed yet."""
    scene = HttpScene(close_timeout=5)
    scene.ask(get(b"/first") + get(b"/second") if pipelined else get())
    if pipelined:
        scene.answer(OK)
    scene.sessions.drain()
    empty, left = scene.sessions.when_empty(), []
    empty.addCallback(lambda _none: left.append(scene.client.transport.queue))
    scene.client.block()
    scene.answer(BIG)
    assert len(scene.records) == 1 + pipelined and not empty.called
    scene.client.unblock()
    scene.pump()
    scene.advance(CHECK_INTERVAL * 2)
    assert left == [b""] and scene.client.received.endswith(b"x" * 1000)


@pytest.mark.parametrize("stays", [True, False])
def test_a_refused_opening_does_not_delay_a_drain(stays):
    """The record is written with the refusal, and the client may close later."""
    scene = Scene(close_timeout=5.0)
    scene.router.upstream = RouteNotFound("nowhere")
    scene.client.send(opening())
    scene.client.pump()
    assert scene.record.error == "RouteNotFound" and scene.record.kind is Kind.CONSOLE
    empty = scene.sessions.when_empty()
    assert not empty.called, "it has not got the refusal yet"
    if stays:
        scene.pump()
        assert scene.client.received.startswith(b"HTTP/1.1 404 ")
        scene.clock.advance(CHECK_INTERVAL)
    else:
        scene.client.reset()
        scene.pump()
    assert empty.called and bool(scene.client.ended) is not stays
    scene.advance(6)
    assert scene.client.ended and len(scene.recorder.records) == 1


def test_an_abort_ends_in_the_turn_in_which_the_connections_end():
    scene = Embedded(drain_timeout=3600.0).open()
    done = scene.stop()
    connection = Connection()
    scene.sessions.wait_for_flush(connection)
    scene.proxy.abort()
    scene.pump()
    assert done == [None] and connection.aborted
    assert (scene.client.ended, scene.host.ended) == ("aborted", "aborted")
    assert not scene.clock.getDelayedCalls()


def test_a_session_that_does_not_end_is_awaited_once():
    """A plugin or a bug keeps a session: the wait is one second, not one for each stage of the drain."""
    scene = Embedded(drain_timeout=3600.0).open()
    done = scene.stop()
    scene.proxy.abort()
    scene.clock.advance(1)  # the wires are not pumped
    assert done == [None]


def test_an_abort_ends_an_opening_that_waits_for_its_upstream():
    scene = Embedded(drain_timeout=3600.0)
    scene.client.send(opening())
    scene.pump()
    done = scene.stop()
    assert not done and len(scene.sessions) == 1
    scene.proxy.abort()
    scene.pump()
    assert done == [None] and scene.client.ended == scene.host.ended == "aborted"

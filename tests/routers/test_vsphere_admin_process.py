"""The router `vsphere` while the admin process is away, and the questions that it asks."""

from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from esxiproxy.core.errors import (
    TicketsUnavailable,
)
from esxiproxy.routers.vsphere import MAX_TICKET_QUESTIONS, RETURN_TIMEOUT
from tests.routers.vsphere_scene import ID, Scene
from tests.support.outcome import result
from tests.support.vsphere_double import TICKET


def test_an_admin_process_that_is_back_within_three_seconds_is_waited_for():
    scene = Scene()
    scene.http.refused = 6
    routing = scene.start()
    for _ in range(3):
        assert not routing.called
        scene.clock.advance(0.25)
    assert result(routing).console == ID
    sockets = [each.socket.name for each in scene.http.requests]
    assert sockets == ["tickets-3.sock", "tickets.sock"] * 3 + ["tickets-3.sock"]


def test_an_admin_process_that_is_not_back_is_a_503_with_retry_after():
    scene = Scene()
    scene.http.refused = 1000
    routing = scene.start()
    scene.clock.pump([0.25] * int(RETURN_TIMEOUT / 0.25))
    with pytest.raises(TicketsUnavailable, match="was not back within 3 s") as caught:
        result(routing)
    assert (caught.value.status_code, caught.value.retry_after) == (503, 3)
    assert not scene.clock.getDelayedCalls()


def test_after_a_reload_the_newest_admin_process_answers():
    scene = Scene()
    scene.http.refused = 1
    assert scene.route().console == ID
    assert scene.http.requests[-1].socket == Path("/run/sites/tickets.sock")


def test_a_question_for_a_ticket_that_was_sent_is_not_repeated():
    scene = Scene()
    scene.http.lost = ConnectionLost()
    routing = scene.start()
    scene.http.lost = None
    scene.clock.advance(0.25)
    route = result(routing)
    scene.http.requests.clear()
    scene.http.lost = ConnectionLost()
    with pytest.raises(TicketsUnavailable, match="gave no answer"):
        result(route.acquire())
    assert len(scene.http.requests) == 1


def test_a_client_that_leaves_gives_up_its_question():
    scene = Scene()
    given_up = []
    scene.vsphere.fault = Deferred(lambda _: given_up.append(True))
    opening = Deferred.fromCoroutine(scene.route().acquire())
    opening.cancel()
    with pytest.raises(CancelledError):
        result(opening)
    assert given_up == [True]
    scene.vsphere.fault = None
    assert scene.open().target == f"/ticket/{TICKET}2".encode()


def test_few_tickets_are_asked_for_at_a_time():
    scene = Scene()
    scene.vsphere.fault = Deferred()
    openings = [Deferred.fromCoroutine(scene.route().acquire()) for _ in range(MAX_TICKET_QUESTIONS + 10)]
    assert len(scene.vsphere.asked) == MAX_TICKET_QUESTIONS
    openings[-1].cancel()
    openings.pop().addErrback(lambda _: None)
    waiting, scene.vsphere.fault = scene.vsphere.fault, None
    waiting.callback(None)
    assert all(each.called for each in openings)
    assert len({result(each).target for each in openings}) == len(openings) == len(scene.vsphere.asked)

"""Health checks that a listener answers without an upstream."""

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.http.policy import Http, ListenerPolicy
from tests.net.http_scene import OK, HttpScene, get, read

HEALTH = ListenerPolicy(health=b"/readyz", paths=(b"/ticket/",))


def probed(octets, policy=HEALTH, draining=False):
    scene = HttpScene(RouteNotFound("the router is not asked"), policy)
    scene.authenticator.answer = Deferred()
    scene.sessions.draining = draining
    scene.client.send(octets)
    scene.pump()
    assert scene.client.transport.half_closed and not scene.records and scene.connector.dials == 0
    assert scene.admission.handshakes == 0
    scene.client.close()
    scene.pump()
    assert scene.at_rest() and not scene.records
    return scene.client.received


@pytest.mark.parametrize("http", Http)
@pytest.mark.parametrize(
    "octets",
    [
        get(b"/readyz"),
        get(b"/readyz?probe=1"),
        get(b"http://proxy.example:81/readyz"),
        b"GET /readyz HTTP/1.0\r\n\r\n",
        b"OPTIONS /readyz HTTP/1.0\r\n\r\n",
        get(b"/readyz", b"Connection: keep-alive", b"Content-Length: 2", body=b"hi"),
        get(b"/readyz", b"Upgrade: websocket"),
    ],
)
def test_a_health_check_reports_whether_new_consoles_are_accepted(http, octets):
    for draining, status, body in ((False, 200, b"ready\n"), (True, 503, b"draining\n")):
        found = read(probed(octets, ListenerPolicy(http, HEALTH.paths, health=b"/readyz"), draining))
        assert (found.status, found.body, found.rest) == (status, body, b"")
        assert found.values(b"Connection") == [b"close"] and found.values(b"Cache-Control") == [b"no-store"]


def test_a_health_check_says_when_no_descriptor_is_left():
    scene = HttpScene(policy=HEALTH)
    scene.admission._has_descriptors = lambda dials: False
    scene.ask(get(b"/readyz"))
    found = read(scene.client.received)
    assert (found.status, found.body) == (503, b"no file descriptors left\n")


def test_a_health_check_by_head_has_no_body():
    found = read(probed(get(b"/readyz", method=b"HEAD")), bodiless=True)
    assert (found.status, found.values(b"Content-Length"), found.rest) == (200, [b"6"], b"")


def test_a_health_check_may_follow_another_request():
    scene = HttpScene(policy=ListenerPolicy(Http.FORWARD, health=b"/readyz"))
    scene.ask(get(b"/ui/"))
    scene.answer(OK)
    scene.clear()
    scene.ask(get(b"/readyz"))
    assert read(scene.client.received).body == b"ready\n" and scene.client.transport.half_closed
    assert [record.target for record in scene.records] == ["/ui/"]


def test_a_worker_that_retires_is_ready_since_its_successor_is():
    scene = HttpScene(policy=HEALTH)
    scene.sessions.close_idle()
    scene.ask(get(b"/readyz"))
    found = read(scene.client.received)
    assert (found.status, found.values(b"Connection")) == (200, [b"close"])


@pytest.mark.parametrize("path", [b"/", b"/readyz/", b"/readyzz", b"/Readyz", b"/%72eadyz", b"//readyz"])
def test_another_path_is_no_health_check(path):
    scene = HttpScene(policy=HEALTH)
    scene.ask(get(path))
    assert read(scene.client.received).status == 404 and len(scene.records) == 1


def test_without_the_key_there_is_no_health_check():
    scene = HttpScene()
    assert scene.ask(get(b"/readyz")).startswith(b"GET /readyz ")


def test_a_health_check_is_no_post():
    scene = HttpScene(policy=HEALTH)
    scene.ask(get(b"/readyz", b"Content-Length: 0", method=b"POST"))
    found = read(scene.client.received)
    assert (found.status, found.values(b"Allow")) == (405, [b"GET, HEAD, OPTIONS"])
    assert scene.connector.dials == 0

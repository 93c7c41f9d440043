"""The connection limits: at the accept, before the dial, and in plain HTTP."""

from ipaddress import ip_network

from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.session.connection_limits import ConnectionLimits
from tests.net.http_scene import OK, HttpScene, get
from tests.net.memory import Wire
from tests.net.scene import Scene, opening


def limited(scene, **connection_limits):
    scene.factory.gateway.connection_limits = ConnectionLimits(**connection_limits)
    return scene


def another(scene):
    """Connect one more client to the listener."""
    return Wire(scene.factory.buildProtocol(None))


def ask(scene, client):
    client.send(opening())
    while client.pump():
        scene.pump()
    return client.received


def refused(answer, limit):
    head = answer.partition(b"\r\n\r\n")[0]
    return head.startswith(b"HTTP/1.1 503 ") and b"Retry-After:" in head and limit in answer


def test_a_console_beyond_max_sessions_is_a_503_until_another_one_ends():
    scene = limited(Scene(), max_sessions=1).open()
    second = another(scene)
    assert refused(ask(scene, second), b"max_sessions")
    second.close()
    while second.pump():
        scene.advance(1)
    assert scene.recorder.records[0].error == "LimitReached"
    assert scene.admission.refusals["max_sessions"] == 1
    scene.client.close()
    scene.pump()
    scene.host.close()
    scene.pump()
    third = another(scene)
    assert not ask(scene, third)
    scene.accept()
    scene.pump()
    third.pump()
    assert third.received.startswith(b"HTTP/1.1 101 ")


def test_a_connection_of_the_upstream_counts_until_its_descriptor_is_closed():
    scene = limited(Scene(), max_connections=1).open()
    scene.client.reset()
    scene.client.pump()
    assert refused(ask(scene, another(scene)), b"max_connections")
    scene.advance(6)
    assert not ask(scene, another(scene))


def test_a_dial_that_fails_gives_its_connection_back():
    scene = limited(Scene(), max_connections=1)
    scene.client.send(opening())
    scene.pump()
    scene.host.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 404 ")
    assert not ask(scene, another(scene))


def test_a_client_that_disconnects_in_the_queue_takes_no_slot():
    scene = limited(Scene(), max_sessions=1, queue_timeout=5.0).open()
    second, third = another(scene), another(scene)
    ask(scene, second), ask(scene, third)
    assert scene.admission.waiting == 2
    second.reset()
    second.pump()
    assert scene.admission.waiting == 1
    scene.client.reset()
    scene.pump()
    scene.host.close()
    scene.advance(1)
    scene.accept()
    scene.pump()
    third.pump()
    assert third.received.startswith(b"HTTP/1.1 101 ")


def test_a_client_in_the_queue_is_refused_when_its_time_is_up():
    scene = limited(Scene(), max_sessions=1, queue_timeout=2.0).open()
    second = another(scene)
    assert not ask(scene, second)
    scene.advance(1.9)
    second.pump()
    assert not second.received
    scene.advance(0.2)
    second.pump()
    assert refused(second.received, b"max_sessions")


def test_clients_in_the_opening_handshake_are_limited_and_those_that_are_through_are_not():
    scene = limited(Scene(), max_handshakes=2).open()
    waiting, slow, late = another(scene), another(scene), another(scene)
    late.pump()
    assert refused(late.received, b"max_handshakes")
    ask(scene, waiting)
    scene.pump()
    slow.reset()
    slow.pump()
    assert scene.admission.handshakes == 1  # its upstream has not answered
    scene.accept()
    scene.pump()
    waiting.pump()
    assert waiting.received.startswith(b"HTTP/1.1 101 ")
    assert scene.admission.handshakes == 0


def test_no_descriptor_for_a_session_is_a_503_before_the_dial():
    scene = Scene()
    scene.admission._has_descriptors = lambda dials: False
    scene.client.send(opening())
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 503 ")
    assert scene.connector.dials == 0
    scene.client.close()
    scene.advance(6)
    assert scene.record.error == "OutOfDescriptors"


def test_a_request_that_reuses_a_connection_takes_no_other():
    scene = limited(HttpScene(), max_connections=1)
    for _ in range(3):
        scene.ask(get())
        scene.answer(OK)
    assert scene.client.received.count(b"HTTP/1.1 200 OK") == 3
    assert scene.connector.dials == 1
    assert scene.admission.handshakes == 0 and not scene.admission._dials


def test_an_idle_connection_is_closed_for_a_new_console():
    scene = limited(HttpScene(), max_connections=1)
    scene.ask(get())
    scene.answer(OK)
    kept = scene.host
    console = another(scene)
    assert not ask(scene, console)
    scene.advance(0.1)
    assert kept.ended and scene.host is not kept
    scene.accept()
    scene.pump()
    console.pump()
    assert console.received.startswith(b"HTTP/1.1 101 ")
    scene.clear()
    scene.ask(get())
    assert refused(scene.client.received, b"max_connections")


def test_slow_bodies_leave_connections_to_consoles():
    """Slow uploads get half of the connections, and consoles the other half."""
    scene = limited(HttpScene(), max_connections=4)
    clients = [another(scene) for _ in range(4)]
    for client in clients:
        client.send(get(b"/sdk", b"Content-Length: 100000", method=b"POST") + b"a few bytes")
        while client.pump():
            scene.pump()
    answers = [client.received for client in clients]
    assert answers[:2] == [b"", b""] and all(
        refused(answer, b"max_http_connections") for answer in answers[2:]
    )
    consoles = [another(scene) for _ in range(3)]
    for console in consoles[:2]:
        assert not ask(scene, console)
        scene.accept()
        scene.pump(), console.pump()
        assert console.received.startswith(b"HTTP/1.1 101 ")
    assert refused(ask(scene, consoles[2]), b"max_connections")


def test_a_connection_of_one_client_is_not_used_for_another_one():
    """A proxy in front mixes its clients on one connection: each request counts for its own client."""
    trust = TrustedProxies((ip_network("198.51.100.7/32"),))
    scene = limited(HttpScene(policy=ListenerPolicy(http=Http.FORWARD, trust=trust)), max_connections=8)
    for client, dials in (b"198.51.100.1", 1), (b"198.51.100.1", 1), (b"198.51.100.2", 2):
        scene.ask(get(b"/ui/", b"X-Forwarded-For: " + client))
        scene.answer(OK)
        assert scene.connector.dials == dials
    scene.factory.gateway.connection_limits = ConnectionLimits(max_http_connections_per_client=None)
    for client in (b"198.51.100.3", b"198.51.100.4"):
        scene.ask(get(b"/ui/", b"X-Forwarded-For: " + client))
        scene.answer(OK)
    assert scene.connector.dials == 3


def test_a_client_that_is_refused_and_stays_holds_nothing():
    scene = limited(Scene(), max_sessions_per_client=1, max_handshakes=1)
    scene.client.send(opening())
    scene.pump()
    scene.host.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 404 ")
    assert scene.admission.handshakes == scene.admission.dialling == 0
    assert not ask(scene, another(scene))


def test_an_upstream_that_cannot_even_be_dialled_takes_no_connection():
    scene = limited(Scene(), max_connections=1)
    connect = scene.connector.connect

    def broken(*_args):
        raise UnicodeError("no name")

    scene.connector.connect = broken
    scene.client.send(opening())
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 500 ")
    scene.connector.connect = connect
    assert not ask(scene, another(scene))

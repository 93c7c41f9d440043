"""A connection from its first byte to the protocol that serves it."""

import pytest
from twisted.internet.interfaces import ISSLTransport
from zope.interface import directlyProvides

from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.session.record import Kind
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.memory import MemoryTransport, Wire
from tests.net.scene import Scene, opening


def test_plain_http_is_refused_unless_it_is_configured():
    scene = Scene()
    scene.client.send(get(b"/ticket/secret"))
    scene.pump()
    found = read(scene.client.received)
    assert (found.status, found.values(b"Upgrade")) == (426, [b"websocket"])
    assert found.body == b"426 Upgrade Required: only WebSocket connections are served here\n"
    assert (scene.record.kind, scene.record.method, scene.record.error) == (
        Kind.HTTP,
        "GET",
        "UpgradeRequired",
    )
    assert "secret" not in repr(scene.record)


@pytest.mark.parametrize("octets", [b"\x16\x03\x01\0\0", b"GET / HTTP/1.1\nHost: h\n\n"])
def test_an_unreadable_head_is_recorded(octets):
    scene = HttpScene()
    scene.ask(octets)
    record = scene.record
    assert (record.method, record.target, record.status) == ("", "", 400)
    assert record.client.host == "198.51.100.7" and record.listener == "test"


def test_a_refused_opening_handshake_is_a_consoles_record():
    scene = HttpScene(policy=ListenerPolicy(paths=(b"/ticket/",)))
    scene.ask(opening(b"/sdk"))
    assert (scene.record.kind, scene.record.status) == (Kind.CONSOLE, 404)


def test_a_path_that_is_let_through_is_served():
    scene = HttpScene(policy=ListenerPolicy(http=Http.FORWARD, paths=(b"/ticket/", b"/ui/")))
    scene.ask(get(b"/ui/x"))
    assert read(scene.answer(OK)).body == b"ok"
    scene.ask(opening(b"/ticket/abc"))
    scene.accept()
    scene.pump()
    assert b"HTTP/1.1 101 " in scene.client.received


def test_a_connection_closed_without_a_byte_has_no_record():
    scene = HttpScene()
    scene.client.close()
    scene.pump()
    assert scene.at_rest() and not scene.records


def test_bytes_behind_an_opening_handshake_wait_for_the_101():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.ask(opening() + get(b"/admin"))
    assert b"/admin" not in scene.host.received and b"/admin" not in scene.hosts[0].received


@pytest.mark.parametrize(
    ("http", "methods"),
    [(Http.REFUSE, b"GET"), (Http.FORWARD, b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")],
)
def test_a_refused_method_is_answered_with_the_allowed_ones(http, methods):
    scene = HttpScene(policy=ListenerPolicy(http=http))
    scene.ask(get(method=b"TRACE"))
    found = read(scene.client.received)
    assert (found.status, found.values(b"Allow")) == (405, [methods])


def test_an_opening_handshake_is_a_get_on_every_listener():
    scene = HttpScene()
    scene.ask(opening().replace(b"GET", b"POST"))
    found = read(scene.client.received)
    assert (found.status, found.values(b"Allow")) == (405, [b"GET"])


def refused(octets=b"no head at all\r\n\r\n"):
    scene = HttpScene()
    scene.client.send(octets)
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 4") and scene.client.saw_fin
    return scene


@pytest.mark.parametrize(
    "octets",
    [b"no head at all\r\n\r\n", get(b"/", b"Content-Length: 30000000", b"TE: \0", method=b"PUT")],
)
def test_an_upload_behind_a_refusal_is_read_to_its_end(octets):
    """The client reads the response after it has sent everything: a reset would discard the response."""
    scene = refused(octets)
    for _ in range(24):
        scene.client.send(b"x" * (1 << 20), 65536)
        scene.advance(1)
        assert scene.client.transport.reading and not scene.client.incoming and not scene.client.ended
    scene.advance(3.9)
    assert not scene.client.ended
    scene.client.close()
    scene.pump()
    assert scene.client.ended == "far" and scene.at_rest()


def test_a_refused_client_that_stops_sending_is_aborted_in_time():
    scene = refused()
    scene.advance(3)
    scene.client.send(b"x" * 10_000)
    scene.pump()
    scene.advance(4.9)
    assert not scene.client.ended
    scene.advance(0.2)
    assert scene.client.ended == "aborted" and scene.at_rest()


@pytest.mark.parametrize(("every", "gone"), [(100_000, 30), (400, 5)])
def test_a_refused_client_that_keeps_sending_is_aborted_in_time(every, gone):
    scene = refused()
    for _ in range(gone - 1):
        scene.client.send(b"x" * every)
        scene.advance(1)
        assert not scene.client.ended
    for _ in range(6):
        scene.client.send(b"x" * every)
        scene.advance(1)
    assert scene.client.ended == "aborted" and scene.at_rest()


def test_a_bounded_number_of_connections_gets_more_time_for_an_upload(monkeypatch):
    monkeypatch.setattr("esxiproxy.net.listener.dispatch.MAX_DISCARDING", 1)
    scene = refused()
    scene.client.send(b"x" * 10_000)
    scene.pump()
    first, scene.client = scene.client, Wire(scene.factory.buildProtocol(None))
    scene.client.send(b"GET / HTTP/1.1\r\n\r\n")
    for _ in range(8):
        first.send(b"x" * 10_000)
        scene.client.send(b"x" * 10_000)
        first.pump()
        scene.advance(1)
    assert scene.client.ended == "aborted" and not first.ended
    first.close()
    first.pump()
    assert first.ended and not scene.factory.discarding and scene.at_rest()


def test_a_refused_client_that_sends_too_much_is_not_read(monkeypatch):
    monkeypatch.setattr("esxiproxy.net.listener.dispatch.MAX_DISCARDED", 1 << 20)
    scene = refused()
    scene.client.send(b"x" * (3 << 20), 65536)
    scene.pump()
    assert not scene.client.transport.reading
    assert sum(map(len, scene.client.incoming)) >= 1 << 20
    scene.advance(5.1)
    assert scene.client.ended == "aborted" and scene.at_rest()


@pytest.mark.parametrize("answer", [True, False])
def test_an_answer_before_the_end_of_an_upload_reaches_the_client(answer):
    """The response is the upstream's 401, or the proxy's 413."""
    scene = HttpScene(max_body=None if answer else 10)
    body = b"Content-Length: 30000000" if answer else b"Transfer-Encoding: chunked"
    scene.ask(get(b"/", body, method=b"PUT"))
    if answer:
        scene.answer(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
    else:
        scene.ask(b"10000000\r\n0123456789abcdef")
    assert read(scene.client.received).status == (401 if answer else 413) and scene.client.saw_fin
    for _ in range(20):
        scene.client.send(b"x" * (1 << 20), 65536)
        scene.advance(1)
        assert not scene.client.ended and not scene.client.incoming
    scene.client.close()
    scene.pump()
    assert scene.at_rest()


@pytest.mark.parametrize("rest", [(b"\r\n",), (b"\r", b"\n"), (b"\r\n\r", b"\n")])
@pytest.mark.parametrize("early", [False, True])
def test_an_empty_line_behind_a_request_begins_no_other(rest, early):
    """The connection stays idle: no 408 and no record follow after ``head_timeout``."""
    scene = HttpScene(head_timeout=10, keepalive_timeout=60)
    post = get(b"/", b"Content-Length: 1", method=b"POST", body=b"x")
    scene.ask(post + (b"".join(rest) if early else b""))
    scene.answer(OK)
    scene.clear()
    for octets in () if early else rest:
        scene.ask(octets)
    scene.advance(50)
    assert not scene.client.received and not scene.client.saw_fin and len(scene.records) == 1
    scene.ask(get(b"/next"))
    assert read(scene.host.received).line == b"GET /next HTTP/1.1"
    assert read(scene.answer(OK)).body == b"ok"


def test_an_empty_line_behind_the_last_request_keeps_no_connection():
    scene = HttpScene()
    scene.ask(get() + b"\r\n")
    scene.sessions.start_epoch()
    scene.answer(OK)
    assert scene.client.saw_fin


def test_an_empty_line_and_nothing_else_is_closed_in_time():
    scene = HttpScene(keepalive_timeout=60, close_timeout=5)
    scene.ask(get())
    scene.answer(OK)
    for _ in range(7):
        scene.advance(10)
        scene.client.send(b"\r\n")
        scene.pump()
    scene.advance(5)
    assert scene.client.ended == "aborted" and len(scene.records) == 1


def test_a_refused_connection_leaves_no_reference_cycle():
    scene = Scene()
    dispatch = scene.client.protocol
    scene.client.send(b"no head at all\r\n\r\n")
    scene.pump()
    scene.client.close()
    scene.advance(5.1)
    assert scene.at_rest()
    assert not [name for name, held in vars(dispatch).items() if getattr(held, "__self__", None) is dispatch]


SPOILED = {
    "HTTP/1.0": ([(b" HTTP/1.1", b" HTTP/1.0")], b"in HTTP/1.0"),
    "HTTP/1.0 with keep-alive": (
        [(b" HTTP/1.1", b" HTTP/1.0"), (b": keep-alive, Upgrade", b": keep-alive")],
        b"in HTTP/1.0",
    ),
    # nginx with its defaults
    "HTTP/1.0 without Upgrade": (
        [
            (b" HTTP/1.1", b" HTTP/1.0"),
            (b"Upgrade: websocket\r\n", b""),
            (b": keep-alive, Upgrade", b": close"),
        ],
        b"in HTTP/1.0",
    ),
    "no Connection": ([(b"Connection: keep-alive, Upgrade\r\n", b"")], b"without Connection: upgrade"),
    "another Connection": ([(b": keep-alive, Upgrade", b": close")], b"without Connection: upgrade"),
    "no Upgrade": ([(b"Upgrade: websocket\r\n", b"")], b"without Upgrade: websocket"),
    "another Upgrade": ([(b"Upgrade: websocket", b"Upgrade: h2c")], b"without Upgrade: websocket"),
    "no key": (
        [(b"Connection: keep-alive, Upgrade\r\n", b""), (b"Sec-WebSocket-Key", b"X-Key")],
        b"without Connection: upgrade",
    ),
    "POST": (
        [(b"GET ", b"POST "), (b": keep-alive, Upgrade", b": keep-alive")],
        b"without Connection: upgrade",
    ),
}


@pytest.mark.parametrize(("changes", "what"), SPOILED.values(), ids=SPOILED.keys())
@pytest.mark.parametrize("http", Http)
def test_an_opening_without_its_upgrade_fields_is_a_426(http, changes, what):
    octets = opening(b"/ticket/secret")
    for change in changes:
        assert change[0] in octets
        octets = octets.replace(*change)
    scene = HttpScene(policy=ListenerPolicy(http=http))
    assert scene.ask(octets) is None and scene.connector.dials == 0
    found = read(scene.client.received)
    assert (found.status, found.values(b"Upgrade")) == (426, [b"websocket"])
    assert found.body == (
        b"426 Upgrade Required: the opening handshake arrived "
        + what
        + b": a proxy in front has to pass Upgrade "
        b"and Connection on, in HTTP/1.1\n"
    )
    assert scene.record.error == "UpgradeRequired" and "secret" not in repr(scene.record)


@pytest.mark.parametrize(
    "field", [b"Upgrade: h2c", b"Connection: Upgrade", b"Upgrade: h2c\r\nConnection: upgrade"]
)
def test_a_request_to_upgrade_to_another_protocol_is_plain_http(field):
    scene = HttpScene()
    assert scene.ask(get(b"/ui/", field)).startswith(b"GET /ui/ HTTP/1.1")


def test_a_connection_without_a_byte_is_closed_without_a_response():
    scene = HttpScene(head_timeout=10)
    scene.advance(9)
    assert not scene.client.transport.half_closed
    scene.advance(2)
    assert scene.client.transport.half_closed and not scene.client.received
    scene.client.close()
    scene.pump()
    assert scene.at_rest() and not scene.records
    assert scene.admission.silent == 1 and scene.admission.handshakes == 0


def test_a_silent_connection_that_does_not_go_is_aborted():
    scene = HttpScene(head_timeout=10, close_timeout=5)
    scene.advance(16)
    assert scene.client.ended == "aborted" and scene.at_rest() and not scene.records


@pytest.mark.parametrize("some", [b"G", b"GET / HTTP/1.1\r\nHost: h\r\n"])
def test_an_incomplete_head_is_answered_with_408(some):
    scene = HttpScene(head_timeout=10)
    scene.ask(some)
    scene.advance(11)
    assert read(scene.client.received).status == 408
    assert (scene.record.status, scene.record.timeout) == (408, "head_timeout")
    assert scene.admission.silent == 0


@pytest.mark.parametrize(("heard", "records"), [(False, 0), (True, 1)])
def test_a_tls_client_that_never_begins_its_handshake_leaves_no_record(heard, records):
    scene = HttpScene(tls_handshake_timeout=10)
    wire = Wire.__new__(Wire)
    dispatch = scene.factory.buildProtocol(None)
    transport = MemoryTransport(wire)
    directlyProvides(transport, ISSLTransport)
    transport.has_received = heard
    wire.aborted = False
    dispatch.makeConnection(transport)
    scene.clock.advance(11)
    assert wire.aborted and not transport.queue and len(scene.records) == records
    assert scene.admission.silent == 2 - records, "the connection that the scene came with is silent, too"
    dispatch.connectionLost()


def test_a_client_that_is_silent_after_its_tls_handshake_leaves_no_record():
    scene = HttpScene(head_timeout=10)
    scene.client.protocol.handshakeCompleted()
    scene.advance(11)
    assert scene.client.transport.half_closed and not scene.client.received and not scene.records

"""Opening handshakes that the proxy refuses, and events during the dial."""

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.errors import RouteNotFound, UpstreamRefused
from tests.net.opening_scene import asked, fields, status, values
from tests.net.scene import Scene, close, frames, opening, up


@pytest.mark.parametrize(
    ("failure", "expected"), [(RouteNotFound("no upstream for this"), 404), (ValueError("a bug"), 500)]
)
def test_a_router_that_raises_is_answered_by_name(failure, expected):
    scene = Scene(failure)
    scene.client.send(opening())
    scene.pump()
    assert status(scene.client.received) == expected
    assert b"a bug" not in scene.client.received
    assert scene.connector.dials == 0


def test_a_dial_that_fails_is_answered_by_name():
    scene = Scene()
    scene.connector.failure = UpstreamRefused("esxi1 (192.0.2.10) refused the connection")
    scene.client.send(opening())
    scene.pump()
    assert status(scene.client.received) == 502
    assert values(fields(scene.client.received), b"Proxy-Status") == [b"esxiproxy; error=connection_refused"]
    assert scene.client.transport.half_closed
    scene.advance(5.2)
    assert scene.client.ended == "aborted" and scene.at_rest()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((b"Version: 13", b"Version: 12"), 426),
        ((b"Version: 13", b"Version: +13"), 426),
        ((b"Version: 13", b"Version: 13\r\nSec-WebSocket-Version: 13"), 400),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 400),
        ((b"GET ", b"POST "), 405),
        ((b"Upgrade: websocket", b"Upgrade: h2c"), 426),
        ((b", Upgrade", b""), 426),
        ((b" HTTP/1.1", b" HTTP/1.0"), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j"), 400),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"Host: ", b"Content-Length: 5\r\nHost: "), 400),
        ((b"Host: ", b"Transfer-Encoding: chunked\r\nHost: "), 400),
        ((b": binary", b": binary, binary"), 400),
        ((b": binary", b": bin ary"), 400),
        ((b"Host: ", b"Origin: http://a.example\r\nOrigin: http://b.example\r\nHost: "), 400),
    ],
)
def test_an_invalid_opening_handshake_is_refused_before_the_dial(change, expected):
    scene = Scene()
    scene.client.send(opening().replace(*change) + up(2, b"x"))
    scene.pump()
    assert status(scene.client.received) == expected
    assert scene.connector.dials == 0
    scene.advance(5.2)
    assert scene.at_rest()


@pytest.mark.parametrize("text", ["Å", "ą", "公", "元", "\x85", "\x80\xff", "🖥"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_field_may_hold_any_byte_beyond_ascii(text, encoding):
    """RFC 9110 5.5, obs-text: the host and the client get the bytes unchanged."""
    value = b"a=" + text.encode(encoding, "ignore") + b"; b=2"
    scene = Scene()
    scene.client.send(opening(b"/ticket/abc", b"Cookie: " + value, b"Remote-Name: " + value))
    scene.pump()
    sent = scene.request()[1]
    assert values(sent, b"Cookie") == [value] and values(sent, b"Remote-Name") == [value]
    scene.accept(b"binary", b"X-Host-Name: " + value)
    scene.pump()
    assert status(scene.client.received) == 101
    assert values(fields(scene.client.received), b"X-Host-Name") == [value]


def test_a_426_names_the_version_that_is_spoken():
    scene = Scene()
    scene.client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    scene.pump()
    got = fields(scene.client.received)
    assert status(scene.client.received) == 426
    assert values(got, b"Sec-WebSocket-Version") == [b"13"] and values(got, b"Upgrade") == [b"websocket"]


def test_a_missing_head_is_408():
    scene = Scene()
    for octet in opening()[:90]:
        scene.client.send(bytes([octet]))
        scene.advance(0.2)
    assert status(scene.client.received) == 408
    assert scene.connector.dials == 0


# During the dial


def test_a_client_that_disconnects_cancels_the_dial():
    scene = Scene()
    asked(scene)
    scene.client.close()
    scene.pump()
    assert scene.connector.cancelled == 1 and scene.host.ended == "aborted"
    assert scene.record.error == "ClientLost" and scene.record.status == 499
    assert scene.at_rest()


def test_a_client_that_disconnects_during_authentication_is_not_dialled_for():
    scene = Scene()
    scene.authenticator.answer = Deferred()
    scene.client.send(opening())
    scene.pump()
    scene.client.close()
    scene.pump()
    assert scene.connector.dials == 0 and scene.at_rest()
    assert scene.record.error == "ClientLost"


def test_a_second_head_behind_the_first_does_not_dial_twice():
    scene = Scene()
    scene.client.send(opening() + opening(b"/ticket/second"))
    scene.pump()
    scene.client.send(opening(b"/ticket/third"))
    scene.pump()
    assert scene.connector.dials == 1
    scene.accept()
    scene.pump()
    assert scene.host.received.count(b"GET ") == 1, "what came behind is frames, and not good ones"
    assert frames(scene.host.received.partition(b"\r\n\r\n")[2])[0][2][:2] == close(1001)


def test_64_kib_before_the_101_are_buffered_and_more_is_refused():
    scene = Scene()
    asked(scene)
    scene.client.send(b"x" * 65536)
    scene.pump()
    assert scene.client.received == b"" and scene.client.transport.reading
    scene.client.send(b"x")
    scene.pump()
    assert status(scene.client.received) == 400
    assert scene.host.ended == "aborted"
    scene.advance(5.2)
    assert scene.at_rest()


def test_a_refused_client_that_keeps_sending_is_read_and_then_aborted():
    scene = Scene(RouteNotFound("nothing here"))
    scene.client.send(opening())
    scene.pump()
    for _ in range(60):
        scene.client.send(b"x" * 65536)
        scene.advance(0.1)
    assert scene.client.ended == "aborted" and scene.at_rest()
    assert scene.record.error == "RouteNotFound"


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_an_observer_that_raises_changes_nothing(error):
    class Failing:
        def opened(self, session):
            raise error

        closed = refused = opened

    scene = Scene()
    scene.sessions._observers = (Failing(), *scene.sessions._observers)
    scene.sessions._refusal_observers = (Failing(), *scene.sessions._refusal_observers)
    scene.open()
    assert scene.client.ended is None
    scene.sessions.refused("max_sessions")
    scene.client.reset()
    scene.advance(11)
    assert scene.record.error == "ClientLost" and scene.at_rest()

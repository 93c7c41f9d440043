"""Opening handshakes: answers of the upstream, and what the client gets of them."""

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from esxiproxy.core.http.chunked_body import CHUNKS_PER_TURN
from esxiproxy.core.routing import Principal
from tests.net.opening_scene import asked, fields, status, values
from tests.net.scene import Scene


def test_no_101_before_the_upstreams():
    scene = Scene()
    asked(scene)
    assert scene.client.received == b""
    scene.accept()
    scene.pump()
    assert status(scene.client.received) == 101
    assert values(fields(scene.client.received), b"Sec-WebSocket-Accept") == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]


def test_fields_of_the_upstreams_101_are_forwarded_each_set_cookie_its_own():
    scene = Scene()
    asked(scene)
    scene.accept(b"binary", b"Set-Cookie: a=1, x", b"Set-Cookie: b=\xe9", b"Keep-Alive: 5", b"Server: ESXi")
    scene.pump()
    got = fields(scene.client.received)
    assert values(got, b"Set-Cookie") == [b"a=1, x", b"b=\xe9"]
    assert values(got, b"Server") == [b"ESXi"]
    assert values(got, b"Keep-Alive") == []
    assert len(values(got, b"Upgrade")) == len(values(got, b"Connection")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n\r\nspent",
        b"HTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nsp\r\n3\r\nent\r\n0\r\n\r\n",
        b"HTTP/1.0 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nspent",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Length: 5\r\n\r\nspent",
    ],
)
def test_a_refusal_of_the_upstream_is_passed_on_with_fields_and_body(answer):
    scene = Scene()
    asked(scene)
    scene.host.send(answer)
    scene.host.close()
    scene.advance(6)
    assert status(scene.client.received) == 403
    got = fields(scene.client.received)
    assert values(got, b"Set-Cookie") == [b"a=1", b"b=2"]
    assert values(got, b"Content-Length") == [b"5"] and scene.client.received.endswith(b"\r\n\r\nspent")
    assert values(got, b"Proxy-Status") == [b"esxiproxy; error=http_upgrade_failed; received-status=403"]
    assert scene.record.error == "UpgradeRefused" and scene.record.status == 403
    assert scene.at_rest()


@pytest.mark.parametrize("before", [b"\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\r\n"])
@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("chunk", [1, 65536])
def test_an_empty_line_before_a_status_line_is_skipped(before, accepts, chunk):
    scene = Scene()
    asked(scene)
    scene.host.send(before, chunk)
    scene.pump()
    if accepts:
        scene.accept(extra=b"\x82\x02hi")
    else:
        scene.host.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nspent", chunk)
    scene.pump()
    assert status(scene.client.received) == (101 if accepts else 403)
    assert scene.client.received.endswith(b"\r\n\r\n" + (b"\x82\x02hi" if accepts else b"spent"))


def test_a_refusal_with_many_chunks_is_read_over_several_turns():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", 65536)
    calls, later = [], scene.clock.callLater
    scene.clock.callLater = lambda seconds, *call: calls.append(seconds) or later(seconds, *call)
    body = b"9\r\n123456789\r\n" * 4 * CHUNKS_PER_TURN
    scene.host.send(body, len(body))
    scene.pump()
    assert not scene.host.transport.reading and calls == [0]
    scene.clock.advance(0)
    assert scene.host.transport.reading and calls == [0, 0, 0]
    scene.host.send(b"0\r\n\r\n")
    scene.pump()
    assert status(scene.client.received) == 403 and scene.client.received.endswith(
        b"123456789" * 4 * CHUNKS_PER_TURN
    )
    scene.client.close()
    scene.advance(6)
    assert scene.at_rest()


def test_a_refusal_with_tiny_chunks_without_end_is_502():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", 65536)
    scene.host.send(b"1\r\nx\r\n" * 70_000, 1 << 20)
    scene.advance(10)
    assert status(scene.client.received) == 502 and scene.record.error == "UpstreamInvalid"


def test_a_refusal_cut_off_between_two_turns_is_passed_on_in_part():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", 65536)
    body = b"9\r\n123456789\r\n" * 2 * CHUNKS_PER_TURN
    scene.host.send(body, len(body))
    scene.pump()
    scene.backend.connectionLost(Failure(ConnectionDone()))
    scene.pump()
    assert status(scene.client.received) == 403 and scene.client.received.endswith(
        b"123456789" * 2 * CHUNKS_PER_TURN
    )
    scene.clock.advance(0)


def test_a_refusals_body_is_cut_at_64_kib():
    scene = Scene()
    asked(scene)
    scene.host.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000, 65536)
    scene.pump()
    assert len(scene.client.received.partition(b"\r\n\r\n")[2]) == 65536
    assert scene.host.ended == "aborted"


ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
INVALID = {
    "garbage": b"\x00\x01\x02garbage\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no accept value": ACCEPTED + b"\r\n",
    "wrong accept value": ACCEPTED + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 6,
    "empty lines without end": b"\r\n" * 9,
    "NUL in a chunk's extension": b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\x00\r\nx\r\n",
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID.keys())
def test_an_answer_that_is_no_opening_handshake_is_502(answer):
    scene = Scene()
    asked(scene)
    scene.host.send(answer)
    scene.pump()
    assert status(scene.client.received) == 502
    assert scene.host.ended == "aborted"
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamInvalid" and scene.at_rest()


@pytest.mark.parametrize(
    "extra",
    [
        (b"other",),
        (b"binary", b"Sec-WebSocket-Protocol: binary"),
        (b"binary", b"Sec-WebSocket-Extensions: permessage-deflate"),
        (b"binary", b"Upgrade: h2c"),
    ],
)
def test_a_101_with_an_unoffered_choice_is_502(extra):
    scene = Scene()
    asked(scene)
    scene.accept(*extra)
    scene.pump()
    assert status(scene.client.received) == 502 and scene.host.ended == "aborted"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 101 Sw", "before the answer was complete"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "before the answer was complete"),
    ],
)
def test_an_upstream_that_disconnects_without_a_response_is_502(sent, said):
    scene = Scene()
    asked(scene)
    scene.host.send(sent)
    scene.pump()
    scene.host.close()
    scene.pump()
    assert status(scene.client.received) == 502
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamLost"
    assert scene.record.detail == f"the upstream ended the connection {said}"


@pytest.mark.parametrize(
    "field", [(b"A", b"b\r\nC: d"), (b"A\r\nB", b"c"), (b"A", b"b\r\n\r\n\x82\x01c"), (b"A b", b"c")]
)
def test_a_field_of_a_plugin_that_would_begin_another_one_is_not_sent(field):
    scene = Scene()
    bob = Principal("bob", response_fields=((b"Set-Cookie", b"a=b"), field))
    scene.authenticator.answer.addCallback(lambda _: bob)
    asked(scene)
    scene.accept()
    scene.pump()
    assert status(scene.client.received) == 502 and b"C: d" not in scene.client.received
    assert scene.host.ended == "aborted"
    scene.client.close()
    scene.pump()
    assert scene.record.error == "UpstreamInvalid" and scene.at_rest()


@pytest.mark.parametrize("field", [("X-User", "bob"), (b"X-User", b"bob", b"more"), (b"X-User", None), 42])
def test_fields_of_a_plugin_that_are_no_pairs_of_bytes_cost_a_500_and_no_connection(field):
    scene = Scene()
    bob = Principal("bob", response_fields=(field,))
    scene.authenticator.answer.addCallback(lambda _: bob)
    asked(scene)
    scene.accept()
    scene.pump()
    assert status(scene.client.received) == 500
    assert scene.host.ended == "aborted"
    scene.client.close()
    scene.pump()
    assert scene.record.error == "Internal" and scene.at_rest()

"""Plain HTTP that fails: hosts that do not answer, cut responses, and clients that disconnect."""

import pytest

from esxiproxy.core.errors import UpstreamLost, UpstreamRefused
from esxiproxy.core.routing import Principal
from tests.net.http_scene import HttpScene, get, read

# Failures


@pytest.mark.parametrize(("failure", "side"), [(UpstreamRefused, "proxy"), (UpstreamLost, "upstream")])
def test_the_record_names_the_side_that_ended_the_dial(failure, side):
    """A failure after the TCP connect, as in the TLS handshake, is ended by the upstream."""
    scene = HttpScene()
    scene.connector.failure = failure("x")
    scene.ask(get())
    assert (scene.record.status, scene.record.error, scene.record.ended_by) == (502, failure.__name__, side)


def test_an_upstream_that_cannot_be_reached_is_a_502_with_its_name():
    scene = HttpScene()
    scene.connector.failure = UpstreamRefused("esxi1 (192.0.2.10) refused the connection")
    scene.ask(get())
    found = read(scene.client.received)
    assert found.status == 502 and b"192.0.2.10" not in scene.client.received
    assert found.values(b"Proxy-Status") == [b"esxiproxy; error=connection_refused"]
    assert scene.client.saw_fin and scene.record.error == "UpstreamRefused"


BAD_ANSWERS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no HTTP, begun": b"HTTX",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length -1": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 70000,
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_an_answer_that_is_no_http_is_a_502(answer):
    scene = HttpScene()
    scene.ask(get())
    found = read(scene.answer(answer))
    assert found.status == 502 and scene.record.error == "UpstreamInvalid"
    assert found.values(b"Proxy-Status") == [b"esxiproxy; error=http_protocol_error"]
    assert scene.host.ended == "aborted" and scene.client.saw_fin


CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
def test_a_truncated_body_never_looks_complete(answer, how):
    scene = HttpScene()
    scene.ask(get())
    scene.answer(answer)
    getattr(scene.host, how)()
    scene.pump()
    found = read(scene.client.received)
    assert (
        scene.client.saw_fin and not found.whole and scene.client.received.endswith((b"hello", b"hello\r\n"))
    )
    assert (scene.record.error, scene.record.status, scene.record.ended_by) == (
        "UpstreamLost",
        200,
        "upstream",
    )


@pytest.mark.parametrize(
    ("version", "length", "end"),
    [
        (b"1.1", b"", "fin"),
        (b"1.1", b"Content-Length: 9\r\n", "fin"),
        (b"1.0", b"Content-Length: 9\r\n", "fin"),
        (b"1.0", b"Transfer-Encoding: chunked\r\n", "reset"),
        (b"1.0", b"", "reset"),
    ],
)
def test_a_client_gets_a_reset_only_where_a_part_looks_complete(version, length, end):
    """HTTP/1.1 without a length is sent in chunks, so the last chunk is missing."""
    scene = HttpScene()
    scene.ask(get(version=version))
    body = b"5\r\nhello\r\n" if b"chunked" in length else b"hello"
    scene.answer(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body)
    scene.host.reset()
    scene.pump()
    assert scene.client.received.rstrip().endswith(b"hello")
    assert (scene.client.ended == "aborted") == (end == "reset")
    assert scene.client.saw_fin == (end == "fin") and scene.record.error == "UpstreamLost"
    if end == "fin":
        assert not read(scene.client.received).whole


def test_a_truncated_response_is_delivered_as_far_as_it_was_received():
    """A download can be resumed there, and a length that is too large by one byte loses nothing."""
    scene = HttpScene()
    scene.ask(get())
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + b"x" * 100_000, 50_000)
    scene.host.close()
    scene.client.unblock()
    scene.pump()
    assert len(read(scene.client.received).body) == 100_000 and scene.client.saw_fin
    assert (scene.record.error, scene.record.octets_down) == ("UpstreamLost", 100_000)
    scene.client.close()
    scene.advance(10)
    assert scene.at_rest()


def test_a_bad_chunk_in_the_middle_of_an_answer_ends_the_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXX\r\n")
    found = read(scene.client.received)
    assert scene.client.saw_fin and not found.whole and scene.record.error == "UpstreamInvalid"
    assert scene.host.ended == "aborted"


@pytest.mark.parametrize("when", ["dialling", "asked", "answering"])
def test_the_upstream_connection_ends_when_the_client_disconnects(when):
    scene = HttpScene()
    scene.connector.slow = when == "dialling"
    scene.ask(get())
    if when == "answering":
        scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    scene.client.close()
    scene.pump()
    assert scene.connector.cancelled == (when == "dialling")
    assert all(host.ended == "aborted" for host in scene.hosts)
    record = scene.record
    assert (record.error, record.status) == ("ClientLost", 200 if when == "answering" else 499)
    assert scene.at_rest()


def test_a_plugin_that_raises_is_a_500_without_its_message():
    scene = HttpScene()
    scene.router.upstream = ValueError("the secret")
    scene.ask(get())
    assert read(scene.client.received).status == 500 and b"secret" not in scene.client.received


@pytest.mark.parametrize("field", [(b"X", "text"), (b"X", b"a", b"b"), None])
def test_fields_of_a_plugin_that_are_none_are_a_500(field):
    scene = HttpScene()
    scene.authenticator.answer.addCallback(lambda _: Principal("bob", response_fields=(field,)))
    scene.ask(get())
    found = read(scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert found.status == 500 and scene.record.error == "Internal"
    assert scene.host.ended == "aborted" and scene.client.saw_fin


def test_a_refusal_of_a_head_request_has_no_body():
    scene = HttpScene()
    scene.connector.failure = UpstreamRefused("x")
    scene.ask(get(method=b"HEAD"))
    assert scene.client.received.endswith(b"\r\n\r\n")

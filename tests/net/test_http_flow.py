"""A side that does not read pauses the other side, and little is buffered in between."""

import pytest

from tests.net.http_scene import OK, HttpScene, get, read

MIB = 1 << 20
BOUND = 192 * 1024
"""Both directions of a connection: the bytes of one read beyond a full transport."""


def held(wire):
    return len(wire.transport.queue)


class Hose:
    """A peer that sends a body of any length, and counts the bytes that it could send."""

    def __init__(self, scene, wire, total):
        self.scene, self.wire, self.left = scene, wire, total

    def run(self, until=None):
        piece = b"x" * 65536
        while self.left and (until is None or not until()):
            if not self.wire.transport.reading:
                return False
            piece = piece[: self.left]
            self.left -= len(piece)
            self.wire.send(piece)
            self.scene.pump()
            self.wire.received = self.wire.received[-4096:]
        return True


def test_a_client_that_does_not_read_stops_the_upstream():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    scene.client.block()
    hose = Hose(scene, scene.host, 64 * MIB)
    assert not hose.run()
    assert 64 * MIB - hose.left <= BOUND and held(scene.client) <= BOUND
    assert scene.client.transport.reading, "the client is still seen leaving"
    total = 0
    while hose.left or held(scene.client) or scene.host.incoming:
        scene.client.unblock(100_000)
        scene.client.received = b""
        scene.pump()
        total += len(scene.client.received)
        hose.run()
        assert held(scene.client) <= BOUND
    assert scene.record.octets_down == 64 * MIB and not scene.record.error


@pytest.mark.parametrize("framing", [b"Content-Length: %d" % (64 * MIB), b"Transfer-Encoding: chunked"])
def test_an_upstream_that_does_not_read_stops_the_client(framing):
    scene = HttpScene()
    scene.ask(get(b"/x", framing, method=b"PUT"))
    scene.host.block()
    chunked = b"chunked" in framing
    if chunked:
        scene.ask(b"%x\r\n" % (64 * MIB))
    hose = Hose(scene, scene.client, 64 * MIB)
    assert not hose.run()
    assert 64 * MIB - hose.left <= BOUND and held(scene.host) <= BOUND
    while hose.left or held(scene.host):
        scene.host.unblock(100_000)
        scene.host.received = b""
        scene.pump()
        hose.run()
        assert held(scene.host) <= BOUND
    scene.host.unblock()
    if chunked:
        scene.ask(b"\r\n0\r\n\r\n")
    scene.answer(OK)
    assert scene.record.octets_up == 64 * MIB and not scene.record.error


def test_a_body_received_during_the_dial_is_buffered_within_bounds():
    scene = HttpScene()
    scene.connector.slow = True
    scene.ask(get(b"/x", b"Content-Length: %d" % MIB, method=b"PUT"))
    hose = Hose(scene, scene.client, MIB)
    assert not hose.run()
    assert MIB - hose.left <= BOUND
    scene.connector.up(scene.connector.waiting.pop())
    scene.pump()
    hose.run()
    scene.answer(OK)
    assert scene.record.octets_up == MIB and read(scene.client.received).body == b"ok"


def test_pipelined_requests_are_buffered_within_bounds():
    scene = HttpScene()
    scene.ask(get(b"/first"))
    many = get(b"/more?" + b"x" * 400) * 500
    scene.client.send(many, 8192)
    scene.pump()
    assert not scene.client.transport.reading and sum(map(len, scene.client.incoming)) > 60_000
    for _ in range(501):
        scene.answer(OK)
    assert scene.client.received.count(b"200 OK") == 501
    assert not any(record.error for record in scene.records)


def test_a_client_that_never_reads_gets_no_further_requests_forwarded():
    scene = HttpScene()
    scene.client.block()
    scene.client.send(get() * 100)
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000
    answers = 0
    while scene.host is None or scene.host.received or not answers:
        scene.pump()
        if not scene.host.received:
            break
        scene.host.received = b""
        scene.answer(big)
        answers += 1
    assert answers == 2 and held(scene.client) <= BOUND
    scene.client.unblock()
    scene.pump()
    assert scene.host.received, "it reads again: the next request goes up"


def test_one_connection_is_never_paused_for_another():
    scene = HttpScene()
    scene.ask(get())
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000, 65536)
    assert not scene.host.transport.reading
    scene.client.unblock()
    scene.answer(b"x" * 100_000, 65536)
    scene.clear()
    scene.ask(get())
    assert scene.host.transport.reading and scene.client.transport.reading
    assert read(scene.answer(OK)).body == b"ok"

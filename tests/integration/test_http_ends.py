"""Answers that end early, over TCP and TLS: the client gets all that there is of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.certificates import Certificate
from tests.support.listeners import Listeners, forwarding
from tests.support.peer import End
from tests.support.websocket_peers import Connection, ScriptedUpstream

SIZE = 30 << 20
PIECE = bytes(256 * 1024)
SHORT, LENGTH = 1_000_000, 2_000_000


def script(connection: Connection) -> None:
    """Send half of an answer and a FIN, or a 401 while the request is still coming."""
    head = connection.read_request()
    if head.line.startswith("GET"):
        connection.send_head("200 OK", [("Content-Length", str(LENGTH))])
        connection.send_raw(bytes(SHORT))
        connection.shutdown()
        connection.recv_eof()
    else:
        connection.recv_exactly(1000)
        connection.send_head("401 Unauthorized", [("Content-Length", "2")], b"no")
        connection.recv_eof()


@pytest.fixture(scope="module")
def listeners(upstream_certificate: Certificate, listener_certificate: Certificate) -> Iterator[Listeners]:
    with (
        ScriptedUpstream(script) as plain,
        ScriptedUpstream(script, upstream_certificate.server_context()) as secure,
        forwarding(plain.port, secure.port, upstream_certificate, listener_certificate) as found,
    ):
        yield found


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_an_answer_that_ends_short_is_delivered_as_far_as_it_came(name: str, listeners: Listeners) -> None:
    with listeners.client(name) as client:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send_request("GET / HTTP/1.1", [("Host", "h.test")])
        head = client.recv_head()
        assert (head.status, head.one("Content-Length")) == (200, str(LENGTH))
        assert len(client.recv_exactly(SHORT)) == SHORT
        assert client.recv_eof() is (End.NOTIFIED if name == "three" else End.FIN)


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_an_answer_before_the_end_of_an_upload_is_there_at_its_end(name: str, listeners: Listeners) -> None:
    with listeners.client(name) as client:
        client.stream.settimeout(60)
        client.send_request("PUT / HTTP/1.1", [("Host", "h.test"), ("Content-Length", str(SIZE))])
        for _ in range(SIZE // len(PIECE)):
            client.stream.sendall(PIECE)
        head = client.recv_head()
        assert head.status == 401 and client.recv_body(head) == b"no"

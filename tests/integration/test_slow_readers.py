"""A client that reads slowly keeps its console and its download; one that reads nothing is ended."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.peer import Peer
from tests.support.programs import TICKET, Proxy, until
from tests.support.websocket import BINARY, frame, handshake_fields, head_bytes
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream, trusting_context

STALL = 2.0
READS_FOR = 3 * STALL
EVERY = 0.2
"""Seconds between two reads of the slow one."""
TAKES = {"plain": 4096, "tls": 4096, "unix": 65536}
"""Octets of one read.  A unix socket counts what was read by whole pieces as they were written."""
BUFFER = 8192
"""Octets that the clients' kernels take: little, so that what is read is soon acknowledged."""
ENDLESS = 1 << 40
PIECE = bytes(65536)
MARGIN = 20.0
"""Seconds for a machine that is busy."""
ANSWER = f"HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n".encode()


class SlowReaders(Proxy):
    """A proxy with a listener on a Unix socket, in front of a host that sends without an end."""

    @contextlib.contextmanager
    def reader(self, listener: str, kind: str) -> Iterator[Peer]:
        """Return a client with a small buffer that has read the head of its answer."""
        family = socket.AF_UNIX if listener == "unix" else socket.AF_INET
        stream = socket.socket(family)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        stream.settimeout(MARGIN)
        at = self.folder / "unix" if listener == "unix" else ("127.0.0.1", self.ports[listener])
        stream.connect(str(at) if isinstance(at, Path) else at)
        if listener == "tls":
            stream = trusting_context().wrap_socket(stream, server_hostname="localhost")
        with Peer(stream, masks=True) as peer:
            fields = handshake_fields(["binary"]) if kind == "console" else [("Host", "console.test")]
            peer.send_raw(head_bytes(f"GET /ticket/{TICKET} HTTP/1.1", fields))
            assert peer.recv_head().status == (101 if kind == "console" else 200)
            yield peer

    def stalled(self) -> int:
        """Return how many sessions were ended because a client acknowledged nothing."""
        return len(re.findall(r"StallTimeout: the client acknowledged nothing", self.log()))


def endless(connection: Connection) -> None:
    """Send a picture, or a file, until the reader has ended."""
    connection.read_request()
    assert connection.request is not None
    if connection.request.one("Upgrade"):
        connection.accept()
        piece = frame(BINARY, PIECE)
    else:
        connection.send_raw(ANSWER)
        piece = PIECE
    with contextlib.suppress(OSError):
        connection.stream.settimeout(None)
        while True:
            connection.stream.sendall(piece)


@pytest.fixture(scope="module")
def proxy(transports: str, listener_certificate: Certificate) -> Iterator[SlowReaders]:
    with ScriptedUpstream(script=endless) as host:
        text = config.ini(
            config.listener("plain", "host", http="forward"),
            config.listener("tls", "host", tls=listener_certificate, http="forward"),
            config.listener("unix", "host", listen="unix:unix", http="forward"),
            config.upstream(host.port, "host"),
            stall_timeout="2s",
            close_timeout="1s",
            ping_interval="1s",
            ping_timeout="1s",
            idle_timeout="2s",
            max_connections="off",
        )
        with SlowReaders(text) as proxy:
            yield proxy


def test_slow_readers_are_kept_and_stalled_ones_are_ended(proxy: SlowReaders) -> None:
    """Clients that read nothing are ended, while slow readers continue."""
    pairs = [(listener, kind) for listener in TAKES for kind in ("console", "page")]
    with contextlib.ExitStack() as stack:
        slow = [(stack.enter_context(proxy.reader(*pair)), TAKES[pair[0]], pair) for pair in pairs]
        silent = [stack.enter_context(proxy.reader(*pair)) for pair in pairs]
        began = time.monotonic()
        while time.monotonic() - began < READS_FOR or proxy.stalled() < len(silent):
            for reader, takes, pair in slow:
                assert reader.stream.recv(takes), f"the slow reader was ended: {pair}"
            assert time.monotonic() - began < READS_FOR + MARGIN, "the silent readers were not ended"
            time.sleep(EVERY)  # this is how slow they are
        for reader in silent:
            reader.stream.settimeout(MARGIN)
            with contextlib.suppress(ConnectionError):
                while reader.stream.recv(65536):
                    pass
        for reader, takes, pair in slow:
            assert reader.stream.recv(takes), f"the slow reader was ended: {pair}"
            reader.reset()
        assert proxy.stalled() == len(silent)
    proxy.assert_clean()


def test_an_answer_that_was_sent_whole_is_read_slowly_to_its_end(listener_certificate: Certificate) -> None:
    """All of it is in the kernel when the connection is closed: it takes longer than close_timeout."""
    size = 80_000
    text = """
[proxy]
close_timeout = 1s
stall_timeout = 20s

[listener plain]
listen = 127.0.0.1:0
http = forward
upstream = host

[upstream host]
url = ws://127.0.0.1:{port}
"""

    def answers(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    with ScriptedUpstream(script=answers) as host, contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(text.format(port=host.port)))
        with Client(proxy.ports["plain"]) as client:
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            fields = [("Host", "console.test"), ("Connection", "close")]
            client.send_request("GET /file HTTP/1.1", fields)
            head = client.recv_head()
            until(lambda: f"down={size}" in proxy.log(), "the request is over")
            time.sleep(4)  # longer than close_timeout: this reader is busy elsewhere
            assert len(client.recv_body(head, MARGIN)) == size
            client.recv_eof()

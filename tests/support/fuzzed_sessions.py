"""Sessions of the fuzz test: the opening of the two ends, and the loop that drives any number of them.

Sockets do not block and nothing sleeps: `run` drives the ends in the test's own thread.
"""

from __future__ import annotations

import random
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from tests.support.fuzzing import Party
from tests.support.websocket import KEY, Head, accept_of, accepting_fields, handshake_fields, head_bytes
from tests.support.websocket_peers import trusting_context

SECONDS = 10.0
"""Each step of an opening handshake may take this long."""
BUFFER = 64 * 1024
"""Of the ends' own sockets: small, so that a reader that stops is felt soon."""


def run(parties: Sequence[Party], until: Callable[[], bool], what: str, seconds: float) -> None:
    """Drive these ends until the function returns True, and fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not until():
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}\n" + "\n".join(map(str, parties)))
        for party in parties:
            party.turn(now)
        # A fresh selector each time: which events are waited for changes with nearly every turn.
        with selectors.PollSelector() as selector:
            wait = 0.02
            for party in parties:
                events, seconds_left = party.wants(now)
                wait = min(wait, seconds_left)
                if events:
                    selector.register(party, events)
            for key, events in selector.select(wait):
                key.fileobj.woken(events)  # type: ignore[union-attr]


def opened(
    rng: random.Random,
    port: int,
    tls: bool,
    listening: socket.socket,
    context: ssl.SSLContext | None,
    target: str,
    budget: int,
) -> tuple[Party, Party]:
    """Return the client and the upstream of a new session, each with some first frames sent."""
    stream = socket.create_connection(("127.0.0.1", port), SECONDS)
    _small(stream)
    if tls:
        stream = trusting_context().wrap_socket(stream, server_hostname="localhost")
    client = Party("client", stream, rng, budget)
    stream.sendall(head_bytes(f"GET {target} HTTP/1.1", handshake_fields(["binary"])) + client.early())
    listening.settimeout(SECONDS)
    taken, _ = listening.accept()
    _small(taken)
    taken.settimeout(SECONDS)
    if context is not None:
        taken = context.wrap_socket(taken, server_side=True)
    upstream = Party("upstream", taken, rng, budget)
    client.peer, upstream.peer = upstream, client
    head, behind = _head(taken)
    key = Head.of(head + b"\r\n\r\n").one("Sec-WebSocket-Key")
    assert key is not None, head
    fields = accepting_fields(key, "binary")
    taken.sendall(head_bytes("HTTP/1.1 101 Switching Protocols", fields) + upstream.early())
    upstream.feed(behind)
    head, behind = _head(stream)
    assert head.startswith(b"HTTP/1.1 101 ") and accept_of(KEY).encode() in head, head
    client.feed(behind)
    client.begin(stream)
    upstream.begin(taken)
    return client, upstream


def _small(stream: socket.socket) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def _head(stream: socket.socket) -> tuple[bytes, bytes]:
    """Read a head, and return it with the bytes behind it."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        piece = stream.recv(1 << 16)
        assert piece, f"the stream ended: {octets!r}"
        octets += piece
    head, _, behind = octets.partition(b"\r\n\r\n")
    return head, behind

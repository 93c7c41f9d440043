"""The upstream in Python; `native/upstream.c` describes it.

python -m bench.pure.upstream CERTIFICATE KEY RSA_CERTIFICATE RSA_KEY
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
from collections.abc import Callable
from ssl import SSLContext, TLSVersion

from bench.pure.wire import BLOCK, GRAIN, Wire, give, pending, server_context, take
from tests.support.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    accepting_fields,
    frame,
    head_bytes,
    take_frames,
)


class Gone(Exception):
    """Raised when a connection has ended or must be closed."""


class Client:
    """One connection; ``serve`` is the function for its current state."""

    def __init__(self, wire: Wire, raw: bool, poller: select.epoll) -> None:
        self.wire, self.raw = wire, raw
        self._poller = poller
        self._text = b""
        self._received = bytearray()
        self._counted = self._sent = 0
        self._block = memoryview(b"")
        self.serve: Callable[[int], bool] = self._open

    def _read(self, size: int = BLOCK) -> bytes | None:
        octets = take(self.wire, size)
        if octets == b"":
            raise Gone
        return octets

    def _say(self, octets: bytes) -> None:
        if give(self.wire, octets) != len(octets):
            raise Gone

    def _open(self, _events: int) -> bool:
        octets = self._read(1 if self.raw else 4096)
        if octets is None:
            return False
        self._text += octets
        if self.raw:
            if octets == b"\n":
                self._choose(self._text)
        elif b"\r\n\r\n" in self._text:
            key = re.search(rb"\nsec-websocket-key: *(\S+)", self._text, re.IGNORECASE)
            if key is None:
                raise Gone
            asked = re.search(rb"\nsec-websocket-protocol:", self._text, re.IGNORECASE)
            fields = accepting_fields(key[1].decode("ascii"), "binary" if asked else "")
            self._say(head_bytes("HTTP/1.1 101 Switching Protocols", fields))
            self._choose(self._text.split(b" ")[1].lstrip(b"/"))
        return True

    def _choose(self, target: bytes) -> None:
        word, _, size = target.strip().partition(b"/")
        self.serve = {b"source": self._source, b"sink": self._sink}.get(word, self._echo)
        if word == b"source":
            payload = bytes(int(size))
            one = payload if self.raw else frame(BINARY, payload)
            self._block = memoryview(one * max(1, BLOCK // len(one)))
            self._poller.modify(self.wire, select.EPOLLIN | select.EPOLLOUT)

    def _echo(self, _events: int) -> bool:
        octets = self._read()
        if octets is None:
            return False
        if self.raw:
            self._say(octets)
            return True
        self._received += octets
        for taken in take_frames(self._received):
            if taken.opcode != PONG:
                self._say(frame(PONG if taken.opcode == PING else taken.opcode, taken.payload))
            if taken.opcode == CLOSE:
                raise Gone
        return True

    def _sink(self, _events: int) -> bool:
        octets = self._read()
        if octets is None:
            return False
        self._counted += len(octets)
        while self._counted >= GRAIN:
            self._counted -= GRAIN
            self._say(b"12345678" if self.raw else frame(BINARY, b"12345678"))
        return True

    def _source(self, events: int) -> bool:
        if events & ~select.EPOLLOUT and self._read() is not None:
            raise Gone
        for _turn in range(16):
            count = give(self.wire, self._block[self._sent :])
            if count < 0:
                raise Gone
            if count == 0:
                break
            self._sent = (self._sent + count) % len(self._block)
        return False


def main() -> None:
    """Serve until the standard input ends."""
    own, rsa = sys.argv[1:3], sys.argv[3:5]
    cold = server_context(*own, tickets=False)
    kinds: dict[str, SSLContext | None] = {
        **{"ws": None, "wss": server_context(*own), "cold": cold},
        **{
            "tickets": server_context(*own, TLSVersion.TLSv1_2),
            "rsa": server_context(*rsa, TLSVersion.TLSv1_2),
        },
        **{"raw": None, "raws": cold},
    }
    poller = select.epoll()
    listeners: dict[int, tuple[str, socket.socket]] = {}
    clients: dict[int, Client] = {}
    ports = {}
    for name in kinds:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = name, listener
        ports[name] = listener.getsockname()[1]
        poller.register(listener, select.EPOLLIN)
    print(json.dumps(ports), flush=True)
    poller.register(0, select.EPOLLIN)
    while True:
        for fd, events in poller.poll():
            if fd == 0:
                return
            if fd in listeners:
                name, listener = listeners[fd]
                _admit(listener, kinds[name], name.startswith("raw"), poller, clients)
                continue
            client = clients[fd]
            try:
                while client.serve(events) and pending(client.wire):
                    pass
            except Gone:
                del clients[fd]
                client.wire.close()


def _admit(
    listener: socket.socket,
    context: SSLContext | None,
    raw: bool,
    poller: select.epoll,
    clients: dict[int, Client],
) -> None:
    """Accept all pending connections."""
    while True:
        try:
            wire: Wire = listener.accept()[0]
        except BlockingIOError:
            return
        wire.setblocking(False)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            wire = context.wrap_socket(wire, server_side=True, do_handshake_on_connect=False)
        clients[wire.fileno()] = Client(wire, raw, poller)
        poller.register(wire, select.EPOLLIN)


if __name__ == "__main__":
    main()

"""The upstream: it answers each message, sends others on its own, and checks every byte of what comes."""

from __future__ import annotations

import re
import select
import socket
import ssl
import time

from bench.soak.ending import Ending
from bench.soak.loop import Loop
from bench.soak.stream import Stream
from bench.soak.tally import Fault, Tally
from bench.soak.wire import KEYSTROKES, NOTHING, UPDATES, Reader, Wrong, content, message
from tests.support.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    accepting_fields,
    close_payload,
    frame,
    head_bytes,
)

MOST_WAITING = 1 << 16
"""Bytes that may wait for a client before the upstream stops to send on its own."""
_TARGET = re.compile(rb"GET /ticket/[^ ]*-(\d+) ")
_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)", re.IGNORECASE)


class Session:
    """The upstream's end of one session."""

    def __init__(self, upstream: Upstream, taken: socket.socket, context: ssl.SSLContext | None) -> None:
        self.number = -1
        self._upstream = upstream
        self._begun = time.monotonic()
        self._head = bytearray()
        self._reader = Reader(masks=True)
        self._sent = self._got = 0
        self._closes = False
        self._timer = upstream.loop.later(30, self._end)
        self._stream = Stream(upstream.loop, taken, self, context)

    def leave(self, ending: Ending) -> None:
        """End it."""
        if ending is Ending.CLEAN:
            self._closes = True
            self._timer.cancel()
            self._stream.write(frame(CLOSE, close_payload(1000)))
        else:
            ending.abruptly(self._stream)
            self._end()

    # the stream's side

    def opened(self) -> None:
        pass

    def received(self, octets: bytes) -> None:
        if self.number < 0:
            self._head += octets
            if b"\r\n\r\n" not in self._head:
                return
            head, _, octets = bytes(self._head).partition(b"\r\n\r\n")
            self._begin(head)
        try:
            for opcode, payload in self._reader.feed(octets):
                self._take(opcode, payload)
        except Wrong as problem:
            self._upstream.tally.fail(Fault.WRONG, self.number, self._begun, f"upstream: {problem}")
            self._stream.reset()
            self._end()

    def lost(self, _how: str) -> None:
        self._end()

    # the session

    def _begin(self, head: bytes) -> None:
        target, key = _TARGET.match(head), _KEY.search(head)
        assert target and key, head
        self.number = int(target[1])
        self._head.clear()
        self._upstream.sessions[self.number] = self
        fields = accepting_fields(key[1].decode(), "binary")
        self._stream.write(head_bytes("HTTP/1.1 101 Switching Protocols", fields))
        self._later()

    def _later(self) -> None:
        self._timer.cancel()
        self._timer = self._upstream.loop.later(
            self._upstream.pace * (0.5 + (self.number + self._sent) % 16 / 16), self._update
        )

    def _update(self) -> None:
        if self._stream.waiting < MOST_WAITING:
            self._send(NOTHING)
        self._later()

    def _send(self, answers: int) -> None:
        payload = content(self.number, self._sent, answers, UPDATES)
        self._stream.write(message(payload, self._sent))
        self._sent += 1

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            if payload != content(self.number, self._got, NOTHING, KEYSTROKES):
                raise Wrong(f"in the place of message {self._got} came {payload[:40].hex(' ')}")
            self._upstream.tally.messages += 1
            self._upstream.tally.octets += len(payload)
            self._got += 1
            if not self._closes:
                self._send(self._got - 1)
        elif opcode == PING:
            self._stream.write(frame(PONG, payload))
        elif opcode == CLOSE:
            if not self._closes:
                self._stream.write(frame(CLOSE, payload))
            self._stream.end()  # the server closes (7.1.1)
            self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._stream.end()
        if self._upstream.sessions.get(self.number) is self:
            del self._upstream.sessions[self.number]


class Upstream:
    """A host with a plain port and one with TLS; its sessions by their numbers."""

    def __init__(self, loop: Loop, tally: Tally, context: ssl.SSLContext, pace: float) -> None:
        """Create an upstream whose sessions each send a message once in `pace` seconds."""
        self.loop, self.tally, self.pace = loop, tally, pace
        self.sessions: dict[int, Session] = {}
        self._listening: list[socket.socket] = []
        self.plain, self.secure = self._listen(None), self._listen(context)

    def close(self) -> None:
        """Take no more connections."""
        for listening in self._listening:
            self.loop.forget(listening.fileno())
            listening.close()

    def _listen(self, context: ssl.SSLContext | None) -> int:
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listening.setblocking(False)
        self._listening.append(listening)

        def ready(_events: int) -> None:
            for _ in range(64):
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                Session(self, taken, context)

        self.loop.watch(listening.fileno(), select.EPOLLIN, ready)
        return int(listening.getsockname()[1])

"""A client: it asks with checked messages, and checks every byte of what comes."""

from __future__ import annotations

import os
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bench.soak.ending import Ending
from bench.soak.loop import Loop
from bench.soak.stream import Stream
from bench.soak.tally import Fault, Tally
from bench.soak.wire import HEAD, KEYSTROKES, NOTHING, UPDATES, Reader, Wrong, content, message
from tests.support.programs import TICKET
from tests.support.websocket import (
    BINARY,
    CLOSE,
    KEY,
    PING,
    PONG,
    accept_of,
    close_payload,
    frame,
    handshake_fields,
    head_bytes,
)

OPENING, ANSWER, CLOSING = 20.0, 30.0, 20.0
"""Seconds that an opening, an answer and an end may take."""
MOST_ASKED = 3
"""Messages without their answer; a console that waits for so many asks nothing more."""
PAUSE = 0.02
"""Seconds in the middle of a message that comes in two parts."""
_MOST_HEAD = 16 * 1024


@dataclass(frozen=True, slots=True)
class Door:
    """A listener of the proxy."""

    name: str
    port: int
    context: ssl.SSLContext | None = None


class Console:
    """One session's client, from its connect to its end, when `over` is called.

    The client asks once in `pace` seconds, and leaves after so many `asks`, if they are limited.
    """

    def __init__(
        self,
        loop: Loop,
        tally: Tally,
        number: int,
        door: Door,
        pace: float,
        over: Callable[[Console], object],
        asks: int | None = None,
        ending: Ending = Ending.CLEAN,
    ) -> None:
        self.number = number
        self.door = door
        self.begun = time.monotonic()
        self.port = 0
        """Its own, once it is connected."""
        self.certificate = b""
        """What the listener has shown."""
        self.is_open = False
        self.is_over = False
        self.leaves = False
        self.expected: Ending | None = None
        """How the upstream ends it, if it was asked to."""
        self._loop, self._tally, self._over = loop, tally, over
        self._pace, self._asks, self._ending = pace, asks, ending
        self._head = bytearray()
        self._reader = Reader(masks=False)
        self._asked: deque[float] = deque()
        self.answered = 0
        """Its messages that have their answer."""
        self._sent = self._got = 0
        self._rest: bytes | None = None
        self._held = bytearray()
        self._closes = False
        self._closed: int | None = None
        tally.begun += 1
        self._next = loop.later(OPENING, lambda: self._fail(Fault.REFUSED, f"not open after {OPENING:g} s"))
        self._stream = Stream.dial(loop, door.port, self, door.context)

    # what the load does with it

    def leave(self, ending: Ending) -> None:
        """End it: by the book when all answers are there, or at once."""
        self._ending, self.leaves = ending, True
        if not self.is_open:
            return
        self._next.cancel()
        self._next = self._loop.later(CLOSING, self._late_end)
        self._go()

    def expect(self, ending: Ending) -> None:
        """Expect that the upstream ends the session now."""
        self.expected = ending
        self._next.cancel()
        self._next = self._loop.later(CLOSING, self._late_end)

    # the stream's side

    def opened(self) -> None:
        self.port, self.certificate = self._stream.port, self._stream.certificate
        line = f"GET /ticket/{TICKET}-{self.number} HTTP/1.1"
        self._stream.write(head_bytes(line, handshake_fields(["binary"])))

    def received(self, octets: bytes) -> None:
        if not self.is_open:
            self._head += octets
            if b"\r\n\r\n" not in self._head and len(self._head) < _MOST_HEAD:
                return
            head, _, octets = bytes(self._head).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 ") or accept_of(KEY).encode() not in head:
                self._fail(Fault.REFUSED, repr(head[:300])[2:])
                return
            self._head.clear()
            self._begin()
        try:
            for opcode, payload in self._reader.feed(octets):
                self._take(opcode, payload)
        except Wrong as problem:
            self._fail(Fault.WRONG, str(problem))

    def lost(self, how: str) -> None:
        if not self.is_open:
            self._fail(Fault.REFUSED, f"{how} after {bytes(self._head[:100])!r}")
        elif self._closes and self._closed == 1000:
            self._end()
        elif self.expected and not self.leaves:
            # Inside a frame no Close can follow; whether an RST finds the proxy there cannot be told.
            if self._closed in ((1000,) if self.expected is Ending.CLEAN else (1011, None)):
                self._end()
            else:
                self._fail(
                    Fault.WRONG, f"close code {self._closed} after {self.expected.value} from upstream"
                )
        else:
            self._fail(Fault.LOST, f"{how}, close code {self._closed}, {len(self._asked)} not answered")

    # asking

    def _begin(self) -> None:
        self.is_open = True
        self._tally.opened += 1
        self._tally.openings.append(time.monotonic() - self.begun)
        self._next.cancel()
        if self.leaves:
            self.leave(self._ending)
            return
        self._next = self._loop.later(self._pace * (self.number % 16) / 16, self._ask)

    def _ask(self) -> None:
        if self._asked and time.monotonic() - self._asked[0] > ANSWER:
            self._fail(Fault.LOST, f"no answer within {ANSWER:g} s")
            return
        if self._asks is not None and self._sent >= self._asks:
            self.leave(self._ending)
            return
        self._next = self._loop.later(self._pace * (0.75 + self._sent % 8 / 16), self._ask)
        if self._rest is not None or len(self._asked) >= MOST_ASKED:
            return
        payload = content(self.number, self._sent, NOTHING, KEYSTROKES)
        octets = message(payload, self._sent, os.urandom(4))
        self._sent += 1
        if self._sent % 8 == 0:  # a pause anywhere in it, be it inside a header
            at = 1 + self.number % (len(octets) - 1)
            self._stream.write(octets[:at])
            self._rest = octets[at:]
            self._loop.later(PAUSE, self._go_on)
        else:
            self._stream.write(octets)
            self._asked.append(time.monotonic())

    def _go_on(self) -> None:
        assert self._rest is not None
        octets, self._rest = self._rest + bytes(self._held), None
        self._held.clear()
        self._stream.write(octets)
        self._asked.append(time.monotonic())
        if self.leaves:
            self._go()

    def _control(self, opcode: int, payload: bytes) -> None:
        octets = frame(opcode, payload, mask=os.urandom(4))
        if self._rest is not None:
            self._held += octets
        else:
            self._stream.write(octets)

    def _go(self) -> None:
        """Leave, as soon as that can be done."""
        if self._rest is not None or self._closes:
            return
        if self._ending is not Ending.CLEAN:
            self._ending.abruptly(self._stream, b"key!")
            self._end()
        elif not self._asked:
            self._closes = True
            self._control(CLOSE, close_payload(1000))

    # checking

    def _take(self, opcode: int, payload: bytes) -> None:
        if self._closed is not None:
            raise Wrong(f"opcode {opcode:#x} behind a Close")
        if opcode == BINARY:
            self._check(payload)
        elif opcode == PING:
            self._tally.pings += 1
            self._control(PONG, payload)
        elif opcode == CLOSE:
            self._closed = int.from_bytes(payload[:2], "big") if payload else 1005
            if not self._closes:
                self._control(CLOSE, payload)

    def _check(self, payload: bytes) -> None:
        console, number, answers = HEAD.unpack_from(payload) if len(payload) >= HEAD.size else (0, 0, 0)
        if (console, number) != (self.number, self._got) or answers not in (NOTHING, self.answered):
            raise Wrong(
                f"message {number} of console {console} answers {answers}; "
                f"due are {self._got} of {self.number} and {self.answered}"
            )
        if payload != content(console, number, answers, UPDATES):
            raise Wrong(f"message {number}, {len(payload)} bytes, is not as it was sent")
        self._got += 1
        self._tally.messages += 1
        self._tally.octets += len(payload)
        if answers != NOTHING:
            self.answered += 1
            if not self._asked:
                raise Wrong(f"an answer to {answers}, which is not sent")
            self._tally.trips.append(time.monotonic() - self._asked.popleft())
            if self.leaves:
                self._go()

    # ending

    def _late_end(self) -> None:
        fault = Fault.LINGERS if self._closes or self.expected else Fault.LOST
        self._fail(fault, f"not over {CLOSING:g} s after its end; {len(self._asked)} not answered")

    def _fail(self, fault: Fault, text: str) -> None:
        if not self.is_over:
            self._tally.fail(fault, self.number, self.begun, f"{self.door.name}: {text}")
            self._stream.reset()
            self._end()

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._next.cancel()
        self._stream.end()
        self._over(self)

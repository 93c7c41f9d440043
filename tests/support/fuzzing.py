"""One end of a session for the fuzz test, which sends random frames and checks received ones."""

from __future__ import annotations

import random
import selectors
import socket
import ssl
import struct
from collections.abc import Callable, Iterator

from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
    masked,
)

AHEAD = 64 * 1024
"""An end makes up frames until it has at least this much to write."""
EARLY = 16 * 1024
"""At most so much is sent before the opening handshakes are over; the proxy holds 64 KiB of it."""
MOST_PINGS = 300
"""Far below what the proxy calls a flood."""
STALL, STUCK = 1.0, 0.03
"""A stalling reader reads nothing until the other end could not write for STUCK, or for STALL at most.

The other end sends large frames meanwhile: it takes some megabytes to fill all the kernel's buffers.
"""
SIZES = (0, 1, 125, 126, 127, 65535, 65536, 65537)
LARGEST = 300 * 1024
NOISE = random.Random(6455).randbytes(2 * LARGEST)
LETTERS = bytes(97 + octet % 26 for octet in NOISE)
WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def data_frames(
    rng: random.Random, masks: bool, more: Callable[[], bool], rush: Callable[[], bool]
) -> Iterator[bytes]:
    """Yield whole messages, in one to five frames or many small ones, as long as `more` returns True.

    During a `rush` the frames are large.
    """
    while more():
        opcode = rng.choice((TEXT, BINARY))
        pool = LETTERS if opcode == TEXT else NOISE
        swarm = rng.random() < 0.3
        last = rng.randint(10, 40) if swarm else rng.choice((0, 0, 0, 1, 2, 4))
        for number in range(last + 1):
            start = rng.randrange(LARGEST)
            size = LARGEST if rush() else rng.randint(0, 130) if swarm else _size(rng)
            payload = pool[start : start + size]
            mask = rng.randbytes(4) if masks else False
            yield frame(CONTINUATION if number else opcode, payload, fin=number == last, mask=mask)


def _size(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(SIZES)
    return int(2 ** rng.uniform(0, 12)) if kind < 0.95 else rng.randint(0, LARGEST)


class Party:
    """One end of a session: the client, or the upstream's side of the connection.

    `sent` and `got` are the bytes of data frames, headers included, that were sent and received. Received
    bytes are compared at once with the peer's `sent`, and each control frame is checked.
    """

    def __init__(self, name: str, stream: socket.socket, rng: random.Random, budget: int) -> None:
        self.name = name
        self.masks = name == "client"
        self.peer: Party = self
        self.rng = rng
        self.sent, self.got = bytearray(), bytearray()
        self.pings: list[bytes] = []
        self.answered = 0
        """Of the pings, up to and with the newest one that has its pong."""
        self.pongs = self.asked = self.stalls = 0
        """Pongs that came, pings of the proxy's own, stalls that made the other end's writes stop."""
        self.closed: tuple[int | None, bytes] | None = None
        """What the Close that came said."""
        self.may_end = False
        self.ended = ""
        """How the stream ended."""
        self.dead = False
        """Neither reads nor writes any more, and does not let go either."""
        self._stream = stream
        self._frames = data_frames(
            rng, self.masks, lambda: len(self.sent) < budget or self._rush(), self._rush
        )
        self._open = True
        self._fenced = False
        self._whole = True
        self._out = bytearray()
        self._chunk = b""
        self._in = bytearray()
        self._left = 0
        self._readable = True
        self._stuck = self._rests = self._pauses = 0.0
        self._is_stalling = False
        self._stall_at = [rng.randrange(budget)] if rng.random() < 0.5 else []
        self._crumbs = 0

    def begin(self, stream: socket.socket) -> None:
        """Continue with this stream after the handshakes, without blocking."""
        stream.setblocking(False)
        self._stream = stream

    # what it is

    def is_done(self) -> bool:
        """Return whether all is written, all has arrived, and the final ping is answered."""
        written = self._fenced and not self._out and not self._chunk
        return written and len(self.got) == len(self.peer.sent) and self.answered == len(self.pings)

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.sent)} bytes made up, {len(self._out) + len(self._chunk)} not written, "
            f"{len(self.got)} of {len(self.peer.sent)} arrived, {self.answered} of {len(self.pings)} pings "
            f"answered by {self.pongs} pongs, {self.asked} pings and {self.stalls} stalls, "
            f"closed {self.closed}, ended {self.ended or 'no'}"
        )

    # what the test does with it

    def early(self) -> bytes:
        """Return the first bytes of the stream, often none, which are sent with the opening handshake."""
        if self.rng.random() < 0.5:
            return b""
        self._make_up()
        count = self.rng.randint(0, EARLY)
        octets = bytes(self._out[:count])
        del self._out[:count]
        return octets

    def send(self, octets: bytes) -> None:
        """Send these bytes at the next frame boundary, and no frames of its own after that."""
        self._open = False
        self._out += octets

    def close(self, code: int, reason: bytes) -> None:
        """Send a Close at the next frame boundary."""
        self.send(self._control(CLOSE, close_payload(code, reason)))

    def ping(self, count: int) -> None:
        """Send so many pings in a row, behind everything else."""
        for _ in range(count):
            self._ping()

    def misplaced(self) -> int:
        """Return the opcode that may not come next: CONTINUATION between messages, BINARY within one."""
        return CONTINUATION if self._whole else BINARY

    def is_written(self) -> bool:
        """Return whether nothing waits to be written."""
        return bool(self.ended) or not (self._out or self._chunk)

    def skip_pauses(self) -> None:
        """Make no pauses from here on."""
        self._stall_at = []
        self._is_stalling = False
        self._pauses = self._rests = 0.0
        self._crumbs = 0

    def reset(self) -> None:
        """Send an RST."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.let_go("RST of its own")

    def drop(self) -> None:
        """Send a FIN without a word of WebSocket or TLS."""
        self.let_go("FIN of its own")

    def forget(self) -> None:
        """Reset the stream if it is still open."""
        if not self.ended:
            self.reset()

    def let_go(self, how: str) -> None:
        """Close the socket; `how` is what `ended` says from here on."""
        self.ended = how
        self._stream.close()

    # the loop

    def turn(self, now: float) -> None:
        """Write and read a little, except during a pause."""
        if self.dead or self.ended:
            return
        if self.closed and not self.masks and not self._open and self.is_written():
            self.drop()  # the server closes (RFC 6455 7.1.1)
            return
        for _ in range(8):
            if self.ended or self._stuck or now < self._rests or not self._write(now):
                break
        if self._is_stalling:
            peer = self.peer
            stuck = bool(peer._stuck) and now - peer._stuck > STUCK
            self.stalls += stuck
            if stuck or now > self._pauses or not peer._open or (peer._fenced and peer.is_written()):
                self._is_stalling, self._pauses = False, 0.0
        for _ in range(8):
            if self.ended or not self._readable or now < self._pauses or not self._read(now):
                break

    def wants(self, now: float) -> tuple[int, float]:
        """Return the events that this end waits for, and the longest time for that."""
        if self.dead or self.ended:
            return 0, 1.0
        events, wait = 0, 1.0
        if self._stuck:
            events |= selectors.EVENT_WRITE
        elif self._out or self._chunk or (self._open and not self._fenced):
            wait = max(0.0, self._rests - now)
        if now < self._pauses:
            wait = min(wait, 0.005 if self._is_stalling else self._pauses - now)
        elif self._readable:
            wait = 0.0
        else:
            events |= selectors.EVENT_READ
        return events, wait

    def fileno(self) -> int:
        return self._stream.fileno()

    def woken(self, events: int) -> None:
        """Note the events that the selector has found."""
        if events & selectors.EVENT_READ:
            self._readable = True
        if events & selectors.EVENT_WRITE:
            self._stuck = 0.0

    # out

    def _make_up(self) -> None:
        while self._open and not self._fenced and len(self._out) < AHEAD:
            if len(self.pings) < MOST_PINGS and self.rng.random() < 0.15:
                self._ping()
            elif self.rng.random() < 0.03:  # an unsolicited pong is not forwarded
                self._out += self._control(PONG, b"unasked by " + self.name.encode())
            elif octets := next(self._frames, b""):
                self._whole = bool(octets[0] & 0x80)
                self.sent += octets
                self._out += octets
            else:
                self._fenced = True
                self._ping()

    def _ping(self) -> None:
        mark = f"{self.name} {len(self.pings)} ".encode()
        payload = mark + NOISE[: self.rng.choice((0, 0, 1, 125 - len(mark)))]
        if self.rng.random() < 0.1 and not self._fenced:
            payload = b""
        self.pings.append(payload)
        self._out += self._control(PING, payload)

    def _control(self, opcode: int, payload: bytes) -> bytes:
        return frame(opcode, payload, mask=self.rng.randbytes(4) if self.masks else False)

    def _write(self, now: float) -> bool:
        if not self._chunk:
            self._make_up()
            if not self._out:
                return False
            size = self._chunk_size()
            self._chunk = bytes(self._out[:size])
            del self._out[:size]
        try:
            count = self._stream.send(self._chunk)
        except WAIT:
            self._stuck = now
            return False
        except OSError as problem:
            assert self.may_end, f"{self.name}: the stream broke: {problem}"
            self._out.clear()
            self._chunk = b""  # what has arrived is still to be read
            return False
        self._chunk = self._chunk[count:]
        if self.rng.random() < (0.2 if self._crumbs else 0.03):
            self._rests = now + self.rng.uniform(0, 0.002)
        return True

    def _rush(self) -> bool:
        return self._open and self.peer._is_stalling

    def _chunk_size(self) -> int:
        if self._rush():
            return 1 << 16
        if self._crumbs:
            self._crumbs -= 1
            return self.rng.randint(1, 14)
        if self.rng.random() < 0.02:
            self._crumbs = self.rng.randint(1, 60)
        return int(2 ** self.rng.uniform(0, 16))

    # in

    def _read(self, now: float) -> bool:
        try:
            octets = self._stream.recv(int(2 ** self.rng.uniform(4, 17)))
        except WAIT:
            self._readable = False
            return False
        except OSError as problem:
            octets, how = b"", f"{type(problem).__name__}"
        else:
            how = "FIN"
        if not octets:
            assert self.may_end, f"{self.name}: the stream ended: {how}"
            self.let_go(how)
            return False
        self.feed(octets)
        if self._stall_at and len(self.got) >= self._stall_at[0]:
            del self._stall_at[0]
            self._is_stalling, self._pauses = True, now + STALL
        elif self._open and self.rng.random() < 0.02:
            self._pauses = now + self.rng.uniform(0, 0.02)
        return True

    def feed(self, octets: bytes) -> None:
        """Compare received data frames, and check received control frames."""
        checked = len(self.got)
        self._in += octets
        while self._in and self._advance():
            pass
        wanted = self.peer.sent[checked : len(self.got)]
        if self.got[checked:] != wanted:
            came = self.got[checked:]
            at = next((i for i, pair in enumerate(zip(came, wanted, strict=False)) if pair[0] != pair[1]), -1)
            at = len(wanted) if at < 0 else at
            raise AssertionError(
                f"{self.name}: byte {checked + at} of the data is wrong: "
                f"{came[at : at + 40].hex(' ')} instead of {wanted[at : at + 40].hex(' ')}"
            )

    def _advance(self) -> bool:
        """Take one part of a frame; False when more has to come first."""
        if self._left:
            count = min(self._left, len(self._in))
            self.got += self._in[:count]
            self._left -= count
            del self._in[:count]
            return True
        if len(self._in) < 2:
            return False
        first, second = self._in[:2]
        assert self.closed is None, f"{self.name}: behind a Close: {self._in[:40].hex(' ')}"
        assert bool(second & 0x80) is not self.masks, f"{self.name}: mask bit of {self._in[:40].hex(' ')}"
        size, start = second & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
        if len(self._in) < start:
            return False
        if start > 2:
            size = int.from_bytes(self._in[2:start], "big")
        key = 0 if self.masks else 4
        if first & 0x08:
            assert first & 0x70 == 0 and first & 0x80, f"{self.name}: a control frame begins with {first:#x}"
            assert start == 2, f"{self.name}: a control frame of {size} bytes"
        else:
            if len(self._in) < start + key:
                return False
            self.got += self._in[: start + key]
            self._left = size
            del self._in[: start + key]
            return True
        if len(self._in) < start + key + size:
            return False
        mask, payload = self._in[start : start + key], self._in[start + key : start + key + size]
        if mask:
            payload = masked(bytes(mask), payload)
        del self._in[: start + key + size]
        self._control_came(first & 0x0F, bytes(payload))
        return True

    def _control_came(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.asked += 1
            if self._open:
                self._out += self._control(PONG, payload)
        elif opcode == PONG:
            self.pongs += 1
            try:
                self.answered = self.pings.index(payload, self.answered) + 1
            except ValueError:
                raise AssertionError(f"{self.name}: a pong that answers no ping of its own: {payload!r}")
        else:
            assert opcode == CLOSE and self.may_end, f"{self.name}: opcode {opcode:#x}, {payload!r}"
            code = int.from_bytes(payload[:2], "big") if payload else None
            self.closed = code, payload[2:]
            if self._open:
                self.send(self._control(CLOSE, payload))

"""The load in Python; `native/load.c` describes it.

python -m bench.pure.load CASE port=PORT [tls=1] [raw=1] [seconds=1] [connections=1] [size=64] ...
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.pure.wire import BLOCK, GRAIN, MASK, Wire, client_context, give, pending, take
from tests.support.websocket import BINARY, CLOSE, PING, PONG, frame, take_frames

CONTEXT = client_context()


@dataclass(slots=True)
class Options:
    """The command line's options, which are all numbers."""

    port: float = 0
    tls: float = 0
    raw: float = 0
    seconds: float = 1
    warm: float = 0.2
    connections: float = 1
    size: float = 64
    pause: float = 0
    rate: float = 0
    resume: float = 0
    closing: float = 1


def opened(options: Options, target: str, session: object = None) -> Wire:
    """Open a console.  Its socket is blocking, with a timeout of 10 seconds."""
    wire: Wire = socket.create_connection(("127.0.0.1", int(options.port)), timeout=10)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.tls:
        wire = CONTEXT.wrap_socket(wire, session=session)  # type: ignore[arg-type]
    wire.sendall(
        b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: binary\r\n\r\n" % (target.encode(), options.port)
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        octets = wire.recv(4096)
        if not octets:
            sys.exit(f"no answer to the opening handshake: {answer!r}")
        answer += octets
    if not answer.startswith(b"HTTP/1.1 101"):
        sys.exit(f"refused: {answer!r}")
    if options.raw:
        wire.sendall(frame(BINARY, target.encode() + b"\n", mask=MASK))
    return wire


class Ring:
    """Several consoles in one epoll, measured after a warm-up until the end."""

    def __init__(self, options: Options, target: str, events: int) -> None:
        self._poller = select.epoll()
        self.wires: dict[int, Wire] = {}
        for _ in range(int(options.connections)):
            wire = opened(options, target)
            wire.setblocking(False)
            self.wires[wire.fileno()] = wire
            self._poller.register(wire, events)
        self.begin = time.perf_counter() + options.warm
        self.end = self.begin + options.seconds

    def ready(self) -> Iterator[tuple[int, Wire, int]]:
        """Yield the ready consoles until the end."""
        while time.perf_counter() < self.end:
            events = self._poller.poll(10)
            if not events:
                sys.exit("nothing for 10 seconds")
            for fd, event in events:
                yield fd, self.wires[fd], event

    def read(self, wire: Wire) -> Iterator[bytes]:
        """Yield the bytes that can be read now."""
        while True:
            octets = take(wire)
            if octets == b"":
                sys.exit("the connection has ended")
            if octets is None:
                return
            yield octets
            if not pending(wire):
                return


def echo(options: Options) -> dict[str, float]:
    ring = Ring(options, "echo", select.EPOLLIN)
    size, message = int(options.size), frame(BINARY, bytes(int(options.size)), mask=MASK)
    buffers = {fd: bytearray() for fd in ring.wires}
    got, since, times = dict.fromkeys(ring.wires, 0), {}, []
    for fd, wire in ring.wires.items():
        since[fd] = time.perf_counter()
        give(wire, message)
    for fd, wire, _event in ring.ready():
        for octets in ring.read(wire):
            buffers[fd] += octets
            got[fd] += sum(len(taken.payload) for taken in take_frames(buffers[fd]) if taken.opcode < CLOSE)
        if got[fd] >= size:
            now = time.perf_counter()
            if ring.begin <= now < ring.end:
                times.append(now - since[fd])
            if options.pause:
                time.sleep(options.pause)
            got[fd], since[fd] = 0, time.perf_counter()
            give(wire, message)
    if not times:
        sys.exit("no message came back")
    times.sort()
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    return {"rate": len(times) / options.seconds, "p50": p50 * 1e6, "p99": p99 * 1e6}


def down(options: Options) -> dict[str, float]:
    ring = Ring(options, f"source/{int(options.size)}", select.EPOLLIN)
    total, first = 0, 0.0
    for _fd, wire, _event in ring.ready():
        for octets in ring.read(wire):
            total += len(octets) if first else 0
        if not first and time.perf_counter() >= ring.begin:
            first = time.perf_counter()
    return {"rate": total / (time.perf_counter() - first)}


def up(options: Options) -> dict[str, float]:
    ring = Ring(options, "sink", select.EPOLLIN | select.EPOLLOUT)
    one = frame(BINARY, bytes(int(options.size)), mask=MASK)
    block = memoryview(one * max(1, BLOCK // len(one)))
    buffers, sent = {fd: bytearray() for fd in ring.wires}, dict.fromkeys(ring.wires, 0)
    total, first, last = 0, 0.0, 0.0
    for fd, wire, event in ring.ready():
        if event & select.EPOLLOUT:
            count = give(wire, block[sent[fd] :])
            if count < 0:
                sys.exit("the connection has ended")
            sent[fd] = (sent[fd] + count) % len(block)
        for octets in ring.read(wire) if event & select.EPOLLIN else ():
            now = time.perf_counter()
            buffers[fd] += octets
            came = sum(len(taken.payload) for taken in take_frames(buffers[fd]) if taken.opcode < CLOSE)
            if now >= ring.begin:
                total += came if first else 0
                first, last = first or now, now
    if not total:
        sys.exit("the sink said nothing")
    return {"rate": total / 8 * GRAIN / (last - first)}


def open_sessions(options: Options) -> dict[str, float]:
    begin = time.perf_counter() + options.warm
    end = begin + options.seconds
    counts: list[int] = []
    resumed: list[int] = []

    def run() -> None:
        session, due = None, time.perf_counter()
        while time.perf_counter() < end:
            wire = opened(options, "echo", session if options.resume else None)
            if begin <= time.perf_counter() < end:
                counts.append(1)
                resumed.append(int(bool(options.tls and wire.session_reused)))  # type: ignore[union-attr]
            if options.tls:
                session = wire.session  # type: ignore[union-attr]
            if options.closing:
                wire.sendall(frame(CLOSE, b"\x03\xe8", mask=MASK))
            while options.closing and (octets := take(wire)):
                if octets[0] == 0x80 | CLOSE:
                    break
            wire.close()
            due += options.connections / options.rate if options.rate else 0
            time.sleep(max(0.0, due - time.perf_counter()) if options.rate else 0)

    threads = [threading.Thread(target=run) for _ in range(int(options.connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    share = sum(resumed) / len(resumed) if resumed else 0.0
    return {"rate": len(counts) / options.seconds, "resumed": share}


def hold(options: Options) -> dict[str, float]:
    poller = select.epoll()
    wires: dict[int, Wire] = {}

    def answer_pings() -> None:
        while True:
            for fd, _event in poller.poll():
                for taken in take_frames(bytearray(take(wires[fd], 4096) or b"")):
                    if taken.opcode == PING:
                        give(wires[fd], frame(PONG, taken.payload, mask=MASK))

    threading.Thread(target=answer_pings, daemon=True).start()
    for _ in range(int(options.connections)):
        wire = opened(options, "echo")
        wire.setblocking(False)
        wires[wire.fileno()] = wire
        poller.register(wire, select.EPOLLIN)
    print(json.dumps({"held": len(wires)}), flush=True)
    sys.stdin.read()
    sys.exit(0)


CASES = {"echo": echo, "down": down, "up": up, "open": open_sessions, "hold": hold}

if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[2:])
    print(json.dumps(CASES[sys.argv[1]](Options(**{name: float(text) for name, text in given.items()}))))

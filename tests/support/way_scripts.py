"""Scripts for one end of a session: the steps of a client or of an upstream that end it before its time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

from tests.support.programs import TICKET
from tests.support.websocket import (
    BINARY,
    CLOSE,
    Field,
    accepting_fields,
    close_payload,
    frame,
    handshake_fields,
    head_bytes,
)

RESET = struct.pack("ii", 1, 0)


class Side:
    """One connection, of a client or of an upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str = "") -> None:
        self.way = way
        self.key = ""
        """The upstream's: what the request's accept value is made of."""
        self._reader, self._writer = reader, writer

    def send(self, octets: bytes) -> None:
        """Send these bytes, as soon as they are taken."""
        self._writer.write(octets)

    async def sent(self) -> None:
        """Wait until most of the bytes are written."""
        await self._writer.drain()

    async def head(self) -> bytes:
        """Return the next head."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def some(self, size: int = 1) -> bytes:
        """Return exactly so many of the next bytes."""
        return await self._reader.readexactly(size)

    async def gone(self) -> None:
        """Wait until the other side has ended the connection."""
        with contextlib.suppress(OSError):
            while await self._reader.read(1 << 16):
                pass

    def reset(self) -> None:
        """Send an RST."""
        sock = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()

    def end(self) -> None:
        """Send a FIN, and with TLS a close_notify before it."""
        self._writer.close()

    def open(self) -> None:
        """Send the opening handshake."""
        line = f"GET /ticket/{TICKET}?way={self.way.replace(' ', '+')} HTTP/1.1"
        self.send(head_bytes(line, handshake_fields(["binary"])))

    def ask(self, method: str, *fields: Field) -> None:
        """Send a plain request."""
        line = f"{method} /ui/?way={self.way.replace(' ', '+')} HTTP/1.1"
        self.send(head_bytes(line, [("Host", "console.test"), *fields]))

    async def opened(self) -> None:
        """Open the console, as a client."""
        self.open()
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101"), head

    def accept(self) -> None:
        """Send the 101, as an upstream."""
        self.send(head_bytes("HTTP/1.1 101 Switching Protocols", accepting_fields(self.key, "binary")))


Script = Callable[[Side], Awaitable[None]]

# What an upstream does


async def console(side: Side) -> None:
    """Serve a console that sends a picture, answers a Close, and ends with the proxy."""
    side.accept()
    side.send(frame(BINARY, b"a picture"))
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await side.some(2)
            await side.some(4 + (head[1] & 0x7F))
            if head[0] & 0x0F == CLOSE:
                side.send(frame(CLOSE, close_payload(1000)))
                side.end()
                break
    await side.gone()


async def silent(side: Side) -> None:
    await side.gone()


async def resets(side: Side) -> None:
    side.reset()


async def ends(side: Side) -> None:
    side.end()


def says(octets: bytes, then: Script) -> Script:
    """Send these bytes and no more: an upstream in the place of a 101, a client in that of a request."""

    async def script(side: Side) -> None:
        side.send(octets)
        await then(side)

    return script


def accepts(octets: bytes, then: Script) -> Script:
    """Return a script that sends a 101 and these bytes."""

    async def script(side: Side) -> None:
        side.accept()
        side.send(octets)
        await then(side)

    return script


async def pours(side: Side) -> None:
    """Send more than the kernel's buffers take."""
    side.accept()
    with contextlib.suppress(OSError):
        for _ in range(256):
            side.send(frame(BINARY, bytes(1 << 16)))
            await side.sent()
    await side.gone()


PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + bytes(64) + b"\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# What a client does


async def stays(side: Side) -> None:
    """Ask for a console, and wait for the end of the connection."""
    side.open()
    await side.gone()


async def answers_close(side: Side) -> None:
    """Ask for a console, answer the Close that comes, and wait for the end."""
    await side.opened()
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await side.some(4)
        side.send(frame(CLOSE, close_payload(1000), mask=True))
    await side.gone()


async def closes(side: Side) -> None:
    """Open a console, and close it in order."""
    await side.opened()
    await says(frame(CLOSE, close_payload(1000), mask=True), silent)(side)


def opens_and(octets: bytes, then: Script) -> Script:
    """Return a script that opens a console, and sends these bytes."""

    async def script(side: Side) -> None:
        await side.opened()
        await side.some(2)
        side.send(octets)
        await then(side)

    return script


def asks_and(then: Script) -> Script:
    """Return a script that asks for a console, and continues before the upstream answers."""

    async def script(side: Side) -> None:
        side.open()
        await asyncio.sleep(0.02)  # so that it is dialled for, as a rule
        await then(side)

    return script


async def asks_at_once(side: Side) -> None:
    side.open()
    await side.sent()
    side.reset()


async def sends_early(side: Side) -> None:
    side.open()
    side.send(frame(BINARY, bytes(1000), mask=True))
    await asyncio.sleep(0.02)
    side.reset()


def uploads(then: Script) -> Script:
    """Return a script that sends half a body."""

    async def script(side: Side) -> None:
        side.ask("POST", ("Content-Length", "100000"))
        side.send(bytes(50000))
        await asyncio.sleep(0.02)
        await then(side)

    return script


def downloads(then: Script) -> Script:
    """Return a script that reads a part of an answer."""

    async def script(side: Side) -> None:
        side.ask("GET")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await side.some(20)
        await then(side)

    return script


async def pipelines(side: Side) -> None:
    for _ in range(5):
        side.ask("GET")
    await side.some(20)
    side.reset()

"""The ways in which sessions end early, at each stage and from either side.

Each way is a pair of scripts, one for the client and one for the upstream, which learns the way from the
target. The end that stays reads to the end of its connection, and fails if the proxy does not end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.listeners import KINDS
from tests.support.way_scripts import (
    CHUNKS,
    PAGE,
    SHORT,
    Script,
    Side,
    accepts,
    answers_close,
    asks_and,
    asks_at_once,
    closes,
    console,
    downloads,
    ends,
    opens_and,
    pipelines,
    pours,
    resets,
    says,
    sends_early,
    silent,
    stays,
    uploads,
)
from tests.support.websocket import BINARY, CLOSE, close_payload, frame
from tests.support.websocket_peers import trusting_context

END_TIMEOUT = 40.0
"""Seconds after which the proxy should have ended whatever is left, with much to spare."""
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
MANY = tuple(KINDS)
TLS = ("three",)
HALF_FRAME = frame(BINARY, b"x" * 10, mask=True, length=1000)
HALF_ANSWER = frame(BINARY, b"x" * 10, length=1000)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to end. `listeners` are those where it makes a difference, `raw` is a client without TLS."""

    client: Script
    upstream: Script = console
    listeners: tuple[str, ...] = MANY
    raw: bool = False


CLEAN = {
    "a Close": Way(closes),
    "a Close of the upstream's": Way(answers_close, accepts(frame(CLOSE, close_payload(1000)), ends)),
}
ABRUPT = {
    # the client
    "reset before the head": Way(resets),
    "end before the head": Way(ends),
    "reset in the head": Way(says(b"GET /ticket/", resets)),
    "end in the head": Way(says(b"GET /ticket/", ends)),
    "a head that is none": Way(says(b"\x00\xff\r\n\r\n", silent)),
    "reset while the upstream is silent": Way(asks_and(resets), silent),
    "end while the upstream is silent": Way(asks_and(ends), silent),
    "reset while it is dialled for": Way(asks_at_once),
    "data before the 101, and reset": Way(sends_early, silent),
    "reset of an open console": Way(opens_and(b"", resets)),
    "end of an open console": Way(opens_and(b"", ends)),
    "reset in a frame": Way(opens_and(HALF_FRAME, resets)),
    "end in a frame": Way(opens_and(HALF_FRAME, ends)),
    "reset behind a Close": Way(opens_and(frame(CLOSE, mask=True), resets)),
    "end behind a Close": Way(opens_and(frame(CLOSE, mask=True), ends)),
    "half a Close, and reset": Way(opens_and(frame(CLOSE, b"\x03\xe8", mask=True)[:5], resets)),
    "a bad frame, and silence": Way(opens_and(b"\x83\x80key!", silent)),
    "a bad frame, and reset": Way(opens_and(b"\x83\x80key!", resets)),
    "reset in a downpour": Way(opens_and(b"", resets), pours),
    "end in a downpour": Way(opens_and(b"", ends), pours),
    # the client's TLS
    "no TLS where TLS is spoken": Way(says(b"GET / HTTP/1.1\r\n\r\n", silent), listeners=TLS, raw=True),
    "reset in the hello": Way(says(HALF_HELLO, resets), listeners=TLS, raw=True),
    "end in the hello": Way(says(HALF_HELLO, ends), listeners=TLS, raw=True),
    # the upstream, which has been dialled
    "reset of the upstream for an answer": Way(stays, resets),
    "end of the upstream for an answer": Way(stays, ends),
    "an upstream that never answers": Way(stays, silent),
    "reset in the answer's head": Way(stays, says(b"HTTP/1.1 101 Swi", resets)),
    "end in the answer's head": Way(stays, says(b"HTTP/1.1 101 Swi", ends)),
    "no HTTP for an answer": Way(stays, says(b"SSH-2.0-none\r\n", silent)),
    "a 101 that is none": Way(stays, says(b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n", silent)),
    "a refusal": Way(stays, says(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", silent)),
    "half a refusal, and reset": Way(stays, says(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno", resets)),
    "half a refusal, and end": Way(stays, says(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno", ends)),
    "reset of the upstream": Way(stays, accepts(b"", resets)),
    "end of the upstream": Way(stays, accepts(b"", ends)),
    "reset of the upstream in a frame": Way(stays, accepts(HALF_ANSWER, resets)),
    "end of the upstream in a frame": Way(stays, accepts(HALF_ANSWER, ends)),
    "a bad frame of the upstream": Way(stays, accepts(b"\x83\x00", silent)),
    "a masked frame of the upstream": Way(stays, accepts(HALF_FRAME, silent)),
    "a Close of the upstream, which stays": Way(answers_close, accepts(frame(CLOSE), silent)),
    "a Close that is never answered": Way(
        opens_and(frame(CLOSE, mask=True), silent), accepts(b"\x82\0", silent)
    ),
    "a Close of the upstream that is never answered": Way(stays, accepts(frame(CLOSE), silent)),
    "reset of both": Way(opens_and(b"", resets), accepts(b"\x82\0", resets)),
    # plain HTTP
    "reset in a body": Way(uploads(resets), silent),
    "end in a body": Way(uploads(ends), silent),
    "an upload to nobody": Way(uploads(silent), resets),
    "reset in an answer": Way(downloads(resets), says(PAGE + bytes(100000), silent)),
    "end in an answer": Way(downloads(ends), says(PAGE + bytes(100000), silent)),
    "reset of the upstream in a body": Way(downloads(silent), says(PAGE + bytes(100000), resets)),
    "end of the upstream in a body": Way(downloads(silent), says(PAGE + bytes(100000), ends)),
    "end of the upstream in a chunk": Way(downloads(silent), says(CHUNKS[:-20], ends)),
    "reset between two requests": Way(downloads(resets), says(SHORT, silent)),
    "end between two requests": Way(downloads(ends), says(SHORT, silent)),
    "reset in a pipeline": Way(pipelines, says(SHORT, silent)),
    # the upstream's TLS, and where there is none
    "a half-open upstream": Way(stays, listeners=("half",)),
    "nobody there": Way(stays, listeners=("dead",)),
}


class Upstream:
    """The upstreams of all these ways, in this loop."""

    def __init__(self) -> None:
        self.talks: set[asyncio.Task[None]] = set()
        """Those that run."""
        self.problems: list[str] = []
        self._halves = 0

    @contextlib.asynccontextmanager
    async def listening(self, context: ssl.SSLContext) -> AsyncIterator[dict[str, int]]:
        """Yield ports by name: plain, with TLS, and with a TLS handshake that never ends."""
        async with contextlib.AsyncExitStack() as stack:
            ports = {}
            for name, call, tls in (
                ("plain", self._talk, None),
                ("secure", self._talk, context),
                ("half", self._half, None),
            ):
                server = await asyncio.start_server(call, "127.0.0.1", 0, ssl=tls, backlog=1024)
                stack.callback(server.close)
                ports[name] = server.sockets[0].getsockname()[1]
            yield ports

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side = Side(reader, writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await side.head()).decode("latin-1")
            side.way = head.partition("?way=")[2].partition(" ")[0].replace("+", " ")
            for line in head.split("\r\n"):
                if line.lower().startswith("sec-websocket-key:"):
                    side.key = line.partition(":")[2].strip()
            await self._drive(side, (CLEAN | ABRUPT)[side.way].upstream)
        writer.close()

    async def _half(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Fail the TLS handshake of each connection in another way."""
        self._halves += 1
        scripts = (
            resets,
            ends,
            silent,
            says(b"\x16\x03\x03\0\x10", resets),
            says(b"HTTP/1.1 400\r\n\r\n", ends),
        )
        side = Side(reader, writer, "half")
        if self._halves % 2:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await side.some(100)  # the ClientHello, as a rule of more than that
        await self._drive(side, scripts[self._halves % len(scripts)])
        writer.close()

    async def _drive(self, side: Side, script: Script) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks.add(task)
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await script(side)
        except TimeoutError:
            self.problems.append(f"{side.way}: the upstream was left open")
            side.reset()
        finally:
            self.talks.discard(task)


async def end(name: str, way: Way, port: int, tls: bool) -> str | None:
    """Run one session to its end, and return the problem, or None."""
    context = trusting_context() if tls and not way.raw else None
    try:
        async with asyncio.timeout(END_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            side = Side(reader, writer, name)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await way.client(side)
            finally:
                writer.close()
    except TimeoutError:
        return f"{name}: the client was left open"
    except (OSError, AssertionError) as problem:
        return f"{name}: {problem!r}"
    return None

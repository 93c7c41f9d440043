"""Consoles that clients ask for, in a stream or many at the same time, and consoles that are checked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.crowd import TARGET, echoes, opened
from tests.support.websocket import Head, handshake_fields, head_bytes
from tests.support.websocket_peers import Client

ARRIVING = 4
AT_A_TIME = 100
DEADLINE = 60.0


@dataclass
class Arrivals:
    """Consoles that open, echo and end all the time, and those that did not."""

    port: int
    opened: int = 0
    refused: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them come until the block ends."""
        ending, lock = threading.Event(), threading.Lock()

        def arrive() -> None:
            while not ending.is_set():
                problem = ""
                try:
                    (client,) = opened(self.port)
                    problem = "" if echoes(client) else "it does not echo"
                    client.send_close()
                    client.recv_rest()
                    client.close()
                except (AssertionError, OSError) as error:
                    problem = str(error)
                with lock:
                    self.opened += 1
                    self.refused += [problem] if problem else []

        threads = [threading.Thread(target=arrive) for _ in range(ARRIVING)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join(60)


class Attempts:
    """Many openings at the same time, on several ports in turn; the consoles stay open until the end."""

    def __init__(self, ports: Sequence[int], target: str = TARGET) -> None:
        self._ports = ports
        self._octets = head_bytes(f"GET {target} HTTP/1.1", handshake_fields(["binary"]))
        self._loop = asyncio.new_event_loop()
        self._held: list[asyncio.StreamWriter] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
        self._loop.close()

    def make(self, count: int, hold: bool = True) -> Counter[int]:
        """Make so many attempts, and return how often they got each status; hold the consoles, or not."""
        return self._loop.run_until_complete(asyncio.wait_for(self._make(count, hold), DEADLINE))

    def drop(self) -> None:
        """End the consoles that are held, without a word."""
        held, self._held = self._held, []
        for writer in held:
            writer.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _make(self, count: int, hold: bool) -> Counter[int]:
        room = asyncio.Semaphore(AT_A_TIME)

        async def attempt(number: int) -> int:
            async with room:
                port = self._ports[number % len(self._ports)]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(self._octets)
                head = Head.of(await reader.readuntil(b"\r\n\r\n"))
                if hold and head.status == 101:
                    self._held.append(writer)
                else:
                    writer.close()
                return head.status

        return Counter(await asyncio.gather(*map(attempt, range(count))))


class Checked:
    """Consoles whose numbered messages a thread echoes and checks.

    ``lost`` has the time at which each console was found to have ended, by its place among the clients.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self.clients = clients
        self.lost: dict[int, float] = {}
        self.messages = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._ending.is_set():
            for place, client in enumerate(self.clients):
                if place not in self.lost and not echoes(client, b"message %d" % self.messages):
                    self.lost[place] = time.monotonic()
                self.messages += 1

"""Many consoles at once: an upstream that echoes, and clients that hold on; and who has them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from unittest.mock import patch

import pytest

from tests.support.programs import TICKET, Proxy
from tests.support.websocket import (
    BINARY,
    CLOSE,
    Head,
    accepting_fields,
    frame,
    handshake_fields,
    head_bytes,
    take_frames,
)
from tests.support.websocket_peers import Client

TARGET = f"/ticket/{TICKET}"
LINE = f"GET {TARGET} HTTP/1.1"
ESTABLISHED = "01"


class EchoUpstream:
    """Takes every console and sends each frame back, unmasked; in a thread of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.open = 0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._stopped.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self._echo(reader, writer)
        finally:
            self.open -= 1
            writer.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = Head.of(await reader.readuntil(b"\r\n\r\n"))
        chosen = "binary" if head.all("Sec-WebSocket-Protocol") else ""
        fields = accepting_fields(head.one("Sec-WebSocket-Key") or "", chosen)
        writer.write(head_bytes("HTTP/1.1 101 Switching Protocols", fields))
        received = bytearray()
        while octets := await reader.read(65536):
            received += octets
            for taken in take_frames(received):
                assert taken.masked, "a client's frame is masked"
                writer.write(frame(taken.opcode, taken.payload, taken.fin))
                if taken.opcode == CLOSE:
                    return


def opened(port: int, count: int = 1) -> list[Client]:
    """Ask for several consoles before the first answer, and return them when all are open."""
    clients = [Client(port, timeout=30) for _ in range(count)]
    for client in clients:
        client.send_request(LINE, handshake_fields(["binary"]))
    for client in clients:
        head = client.recv_head()
        assert head.status == 101, head.raw
    return clients


def echoes(client: Client, word: bytes = b"hello") -> bool:
    """Return whether the console echoes; False when it has ended."""
    try:
        client.send_frame(BINARY, word)
        return client.recv_frame().payload == word
    except (AssertionError, OSError):
        return False


def let_go(clients: Iterable[Client]) -> None:
    """End them without a word."""
    for client in clients:
        client.drop()


class Crew(Proxy):
    """esxiproxy with several workers, ready when all of them are; `files` are there before it starts."""

    def __init__(self, text: str, files: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(text)
        for name, content in files.items():
            (self.folder / name).write_text(content)
            (self.folder / name).chmod(0o600)

    def start(self, seconds: float = 40.0) -> Self:
        with patch.dict(os.environ, {"TMPDIR": str(self.folder)}):
            return super().start(seconds)

    def is_ready(self) -> bool:
        return "all workers are ready" in self.log() and super().is_ready()

    def workers(self) -> list[int]:
        """Return the process ids of all workers."""
        return [pid for pid in children(self.pid) if not is_admin(pid)]

    def admins(self) -> list[int]:
        """Return the process ids of the admin processes, of which a reload has two for a moment."""
        return [pid for pid in children(self.pid) if is_admin(pid)]

    def ask(
        self, method: str, target: str, body: Mapping[str, str] | None = None, seconds: float = 30.0
    ) -> tuple[int, str]:
        """Return the status and the text of an answer on the unix socket of [admin].

        Until a process accepts, the connection waits in the kernel's queue.
        """
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(seconds)
        connection.sock.connect(str(self.folder / "admin.sock"))
        with contextlib.closing(connection):
            fields = {"X-Esxiproxy": "1", **({} if body is None else {"Content-Type": "application/json"})}
            connection.request(method, target, None if body is None else json.dumps(body), fields)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


class Single(Crew):
    """esxiproxy in one process, which has no workers to wait for."""

    is_ready = Proxy.is_ready


def is_admin(pid: int) -> bool:
    """Return whether this child of a master is its admin process."""
    try:
        return b"\0admin\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Return the children of this process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def held(port: int, pids: Sequence[int]) -> list[int]:
    """Return how many clients of a port each of these processes has."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == ESTABLISHED and int(row[1].partition(":")[2], 16) == port}
    return [len(inodes & sockets(pid)) for pid in pids]


def sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


class Notified:
    """A stand-in for systemd, whose socket is NOTIFY_SOCKET of the programs that start meanwhile."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._patch = patch
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(20)

    def __enter__(self) -> Self:
        path = f"{self._folder.name}/notify"
        self._socket.bind(path)
        self._patch.setenv("NOTIFY_SOCKET", path)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.delenv("NOTIFY_SOCKET")
        self._socket.close()
        self._folder.cleanup()

    def next(self) -> str:
        """Return the next message that is more than a status."""
        while True:
            text = self._socket.recv(4096).decode()
            if not text.startswith("STATUS="):
                return text

"""What the process holds: no more for a huge message or a stopped reader, nothing of a session that is dead.

`ESXIPROXY_LONG=1` makes the message 4 GiB.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.listeners import PROXY, Listeners
from tests.support.programs import TICKET, Proxy, dead_port, until
from tests.support.websocket import BINARY, CLOSE, close_payload, frame, handshake_fields
from tests.support.websocket_peers import (
    Client,
    Connection,
    Peer,
    ScriptedUpstream,
    opened,
    refuse,
    sends,
    silent,
)

MIB = 1 << 20
LONG = os.environ.get("ESXIPROXY_LONG") == "1"
MESSAGE = (4096 if LONG else 256) * MIB
STOPPED = 64 * MIB
"""More than all the kernel's buffers on the way can take."""
PIECE = 64 * 1024
KEY = b"\x01\x02\x03\x04"
PATIENCE = 600.0 if LONG else 60.0
TARGET = f"/ticket/{TICKET}"
POOL = random.Random(2).randbytes(MIB + PIECE)
KINDS = {"one": "ws to ws", "three": "wss to wss"}

both_kinds = pytest.mark.parametrize("name", KINDS, ids=KINDS.values())


@dataclass
class Scene:
    """The proxy, with what stands behind its listeners."""

    listeners: Listeners
    upstreams: dict[str, ScriptedUpstream]
    idle: int = 0
    """How many descriptors it has when nobody is connected."""

    @property
    def process(self) -> Proxy:
        return self.listeners.program

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator[tuple[Client, Connection]]:
        """Both ends of an open console; each does what the test does with it."""
        upstream, over = self.upstreams[name], threading.Event()
        upstream.forget()
        upstream.script = opened(lambda _: over.wait(PATIENCE) and None)
        try:
            with self.listeners.client(name, timeout=PATIENCE) as client:
                client.open(TARGET, ["binary"])
                connection = upstream.connection()
                connection.timeout = PATIENCE
                yield client, connection
        finally:
            over.set()
            upstream.forget()


@contextlib.contextmanager
def started(limits: str, shown: Certificate, own: Certificate) -> Iterator[Scene]:
    """The proxy with these limits, in front of two upstreams."""
    with (
        ScriptedUpstream() as plain,
        ScriptedUpstream(tls=shown.server_context()) as secure,
        dead_port() as nobody,
    ):
        values = {"plain": plain.port, "secure": secure.port, "nobody": nobody, "pin": shown.sha256}
        text = PROXY.replace("[proxy]\n", f"[proxy]\n{limits}")
        with Proxy(text.format(certificate=own.path, key=own.key_path, **values)) as proxy:
            yield Scene(Listeners(proxy, proxy.ports), {"one": plain, "three": secure})


@pytest.fixture(scope="module")
def scene(upstream_certificate: Certificate, listener_certificate: Certificate) -> Iterator[Scene]:
    with started("", upstream_certificate, listener_certificate) as scene:
        yield scene


class Sender(threading.Thread):
    """Sends one frame of this size in writes of 64 KiB, in a thread of its own."""

    def __init__(self, peer: Peer, size: int) -> None:
        super().__init__(daemon=True)
        self.head = frame(BINARY, length=size, mask=KEY if peer.masks else False)
        self.sent = self.checksum = 0
        self.problem: BaseException | None = None
        self._peer = peer
        self._size = size
        peer.stream.settimeout(PATIENCE)
        self.start()

    def run(self) -> None:
        pool = memoryview(POOL)
        try:
            self._peer.stream.sendall(self.head)
            while self.sent < self._size:
                start = self.sent // PIECE * 4099 % MIB  # pieces that differ, whatever order they come in
                piece = pool[start : start + min(PIECE, self._size - self.sent)]
                self._peer.stream.sendall(piece)
                self.checksum = zlib.crc32(piece, self.checksum)
                self.sent += len(piece)
        except BaseException as problem:
            self.problem = problem

    def blocked(self) -> Callable[[], bool]:
        """Answers whether nothing could be sent for a second."""
        last, since = -1, 0.0

        def ask() -> bool:
            nonlocal last, since
            if self.sent != last:
                last, since = self.sent, time.monotonic()
            return time.monotonic() - since > 1.0

        return ask


def receive(peer: Peer, head: bytes, size: int) -> int:
    """Read one frame that has to begin with this head; the checksum of its payload."""
    assert peer.recv_exactly(len(head)) == head
    early = peer.recv_exactly(min(size, len(peer._pending)))
    checksum, left = zlib.crc32(early), size - len(early)
    room = memoryview(bytearray(256 * 1024))
    peer.stream.settimeout(PATIENCE)
    while left:
        count = peer.stream.recv_into(room, min(left, len(room)))
        assert count, f"the stream ended {left} bytes early"
        checksum = zlib.crc32(room[:count], checksum)
        left -= count
    return checksum


def passes(sender: Peer, reader: Peer, size: int) -> None:
    """One message of this size goes from one end to the other, whole."""
    sending = Sender(sender, size)
    checksum = receive(reader, sending.head, size)
    sending.join(PATIENCE)
    assert sending.problem is None and (sending.sent, sending.checksum) == (size, checksum)


@both_kinds
def test_a_huge_message_passes_in_constant_memory(name: str, scene: Scene) -> None:
    """One frame, larger than any buffer, up and then down; the process grows by less than 20 MiB."""
    with scene.session(name) as (client, connection):
        passes(client, connection, MIB)
        before = scene.process.resident()
        scene.process.forget_peak()
        passes(client, connection, MESSAGE)
        passes(connection, client, MESSAGE)
        assert scene.process.peak() - before < 20 * MIB
        client.send_close(1000)


@both_kinds
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_reader_that_stops_stops_the_sender(direction: str, name: str, scene: Scene) -> None:
    """The sender's own socket blocks, the process does not grow, and every byte comes when it reads again."""
    with scene.session(name) as (client, connection):
        sender, reader = (client, connection) if direction == "up" else (connection, client)
        passes(sender, reader, 4 * MIB)
        before = scene.process.resident()
        scene.process.forget_peak()
        sending = Sender(sender, STOPPED)
        until(sending.blocked(), "the sender is blocked")
        assert sending.sent < STOPPED
        assert scene.process.peak() - before < 4 * MIB
        checksum = receive(reader, sending.head, STOPPED)
        sending.join(PATIENCE)
        assert sending.problem is None and (sending.sent, sending.checksum) == (STOPPED, checksum)
        assert scene.process.peak() - before < 4 * MIB
        client.send_close(1000)


# Descriptors

SESSIONS = 60
"""Of each kind: 360 together."""


def _client(scene: Scene, number: int) -> tuple[str, Client]:
    """A new client, with and without TLS in turn."""
    name = ("one", "three")[number % 2]
    return name, scene.listeners.client(name)


def clients_reset(scene: Scene) -> list[Client]:
    """An RST in the middle of a frame."""
    clients = [_client(scene, number)[1] for number in range(SESSIONS)]
    for client in clients:
        client.open(TARGET, ["binary"])
        client.send_raw(frame(BINARY, b"x" * 10, mask=KEY, length=1000))
    for client in clients:
        client.reset()
    return []


def upstreams_reset(scene: Scene) -> list[Client]:
    """An RST from the host; the client stays."""
    for upstream in scene.upstreams.values():
        upstream.script = opened(lambda connection: connection.next_frame() and connection.reset())
    clients = [_client(scene, number)[1] for number in range(SESSIONS)]
    for client in clients:
        client.open(TARGET, ["binary"])
        client.send_frame(BINARY, b"go")
    return clients


def clients_leave_while_we_dial(scene: Scene) -> list[Client]:
    """The host has the request and says nothing; the client goes with a FIN or an RST."""
    for upstream in scene.upstreams.values():
        upstream.script = silent
    for number in range(SESSIONS):
        name, client = _client(scene, number)
        client.send_request(f"GET {TARGET} HTTP/1.1", handshake_fields(["binary"]))
        scene.upstreams[name].connection(number // 2)
        (client.reset if number % 4 < 2 else client.drop)()
    return []


def hosts_refuse(scene: Scene) -> list[Client]:
    """403 from the host, 502 for one that is not there; the client never closes."""
    for upstream in scene.upstreams.values():
        upstream.script = refuse("403 Forbidden", b"no" * 1000)
    clients = []
    for number in range(SESSIONS):
        client = _client(scene, number)[1] if number % 3 else scene.listeners.client("dead")
        assert client.ask(TARGET, ["binary"]).status == (403 if number % 3 else 502)
        clients.append(client)
    return clients


def clients_never_read(scene: Scene) -> list[Client]:
    """The host closes by the book, and waits; the client reads nothing of it."""
    for upstream in scene.upstreams.values():
        upstream.script = sends(frame(BINARY, POOL[:PIECE]), frame(CLOSE, close_payload(1000)))
    return _opened(scene)


def clients_that_never_read_block(scene: Scene) -> list[Client]:
    """More than all buffers can take: the host is not read any more when it goes away."""

    def script(connection: Connection) -> None:
        connection.stream.settimeout(0.5)
        with contextlib.suppress(OSError):
            connection.stream.sendall(frame(BINARY, length=STOPPED))
            while True:
                connection.stream.sendall(POOL)
        connection.reset()

    for upstream in scene.upstreams.values():
        upstream.script = opened(script)
    return _opened(scene)


def _opened(scene: Scene) -> list[Client]:
    clients = [_client(scene, number)[1] for number in range(SESSIONS)]
    for client in clients:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.open(TARGET, ["binary"])
    return clients


ENDS = [
    clients_reset,
    upstreams_reset,
    clients_leave_while_we_dial,
    hosts_refuse,
    clients_never_read,
    clients_that_never_read_block,
]


@pytest.fixture(scope="module")
def hasty(upstream_certificate: Certificate, listener_certificate: Certificate) -> Iterator[Scene]:
    """A proxy that waits a second at most; its first sessions are over."""
    with started("stall_timeout = 1s\n", upstream_certificate, listener_certificate) as scene:
        for name in KINDS:
            with scene.session(name):
                pass
        scene.idle = until(scene.process.steady(), "the process is at rest")
        yield scene


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_no_descriptor_outlives_its_session(end: Callable[[Scene], list[Client]], hasty: Scene) -> None:
    """Sixty sessions that end abruptly, in each of six ways: the process has as many descriptors as before.

    The clients that are left keep their ends open meanwhile: it is the proxy that lets go.
    """
    clients = end(hasty)
    try:
        until(lambda: hasty.process.descriptors() == hasty.idle, f"{hasty.idle} descriptors again")
    finally:
        for client in clients:
            client.reset()
        for upstream in hasty.upstreams.values():
            upstream.forget()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no SYN: its queue is full, and nobody takes anything out of it."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nothing_is_left_of_a_dial_that_nobody_answers(host: str) -> None:
    """A client that stays gets 504; one that leaves cancels the dial, and neither is a bug for the log."""
    with black_hole() as hole:
        text = config.ini(
            config.listener(),
            config.upstream(f"ws://{host}:{hole}"),
            connect_timeout="9s",
            upstream_handshake_timeout="1s",
            close_timeout="1s",
        )
        with Proxy(text) as proxy:
            scene = Scene(Listeners(proxy, proxy.ports), {})
            with scene.listeners.client("one") as client:
                assert client.ask(TARGET).status == 504
            idle = until(scene.process.steady(), "the process is at rest")
            clients = [scene.listeners.client("one") for _ in range(20)]
            for client in clients:
                client.send_request(f"GET {TARGET} HTTP/1.1", handshake_fields())
            until(
                lambda: scene.process.descriptors() >= idle + 2 * len(clients), "all of them are dialled for"
            )
            for client in clients:
                client.drop()
            until(lambda: scene.process.descriptors() == idle, "no dial is left", 0.5)
            until(lambda: proxy.log().count("status=499") == len(clients), "their records")
            assert "UpstreamTimeout" in proxy.log() and "Traceback" not in proxy.log()

"""Raw WebSocket ends for the tests, on blocking sockets with deadlines: a client and a scripted upstream.

Nothing that is sent is checked, so malformed data is sent as given.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.peer import TIMEOUT, NotInTime, Peer, StreamEnded
from tests.support.websocket import (
    CLOSE,
    KEY,
    PING,
    PONG,
    Field,
    Frame,
    Head,
    accept_of,
    accepting_fields,
    handshake_fields,
    head_bytes,
)


class Client(Peer):
    """A client. `tls` is a context, or True for one that verifies nothing; `before` is sent before TLS."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | bool = False,
        name: str = "localhost",
        timeout: float = TIMEOUT,
        address: str = "127.0.0.1",
        before: Sequence[bytes] = (),
    ) -> None:
        stream = socket.create_connection((address, port), timeout)
        for octets in before:
            stream.sendall(octets)
        if tls:
            context = tls if isinstance(tls, ssl.SSLContext) else trusting_context()
            stream = context.wrap_socket(stream, server_hostname=name, suppress_ragged_eofs=False)
        super().__init__(stream, masks=True, timeout=timeout)

    @classmethod
    def over(cls, stream: socket.socket) -> Self:
        """Return a client on a stream that is connected already."""
        client = cls.__new__(cls)
        Peer.__init__(client, stream, masks=True)
        return client

    def send_request(self, line: str | bytes, fields: Iterable[Field]) -> None:
        """Send a request's head."""
        self.send_raw(head_bytes(line, fields))

    def get(self, target: str = "/", *fields: Field, method: str = "GET") -> None:
        """Send a request that is no upgrade."""
        self.send_request(f"{method} {target} HTTP/1.1", [("Host", "127.0.0.1"), *fields])

    def send_opening(
        self,
        target: str | bytes = "/",
        subprotocols: Sequence[str] = (),
        fields: Iterable[Field] = (),
        host: str = "console.test",
    ) -> None:
        """Send an opening handshake."""
        path = target if isinstance(target, bytes) else target.encode("latin-1")
        line = b"GET " + path + b" HTTP/1.1"
        self.send_request(line, handshake_fields(subprotocols, fields, host))

    def ask(
        self,
        target: str | bytes = "/",
        subprotocols: Sequence[str] = (),
        fields: Iterable[Field] = (),
        host: str = "console.test",
    ) -> Head:
        """Send an opening handshake, and return the head of the answer."""
        self.send_opening(target, subprotocols, fields, host)
        return self.recv_head()

    def open(
        self,
        target: str | bytes = "/",
        subprotocols: Sequence[str] = (),
        fields: Iterable[Field] = (),
        host: str = "console.test",
    ) -> Head:
        """Send an opening handshake that has to succeed, and return the head of the 101."""
        head = self.ask(target, subprotocols, fields, host)
        assert head.status == 101, f"{head.line}\n{head.fields}"
        assert head.one("Sec-WebSocket-Accept") == accept_of(KEY), head.fields
        return head


def trusting_context() -> ssl.SSLContext:
    """Return a client's context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection(Peer):
    """One connection that the scripted upstream has accepted, for its script."""

    def __init__(self, stream: socket.socket, number: int, timeout: float = TIMEOUT) -> None:
        super().__init__(stream, masks=False, timeout=timeout)
        self.number = number
        self.request: Head | None = None
        self.frames: list[Frame] = []
        """The frames that `serve` and `next_frame` have read."""
        self.problem: BaseException | None = None
        self.finished = threading.Event()
        """Set when the script has returned."""

    def read_request(self) -> Head:
        """Read the head of the opening handshake, keep it in `request`, and return it."""
        self.request = self.recv_head()
        return self.request

    def accept(self, subprotocol: str | None = None, fields: Iterable[Field] = ()) -> None:
        """Answer with a 101; the subprotocol is the first one offered, unless one is given ("" is none)."""
        assert self.request is not None, "the request has not been read"
        if subprotocol is None:
            subprotocol = ", ".join(self.request.all("Sec-WebSocket-Protocol")).split(",")[0].strip()
        fields = [*accepting_fields(self.key, subprotocol), *fields]
        self.send_head("101 Switching Protocols", fields)

    @property
    def key(self) -> str:
        """The key of the opening handshake."""
        assert self.request is not None, "the request has not been read"
        return self.request.one("Sec-WebSocket-Key") or ""

    def send_head(self, status: str, fields: Iterable[Field], body: bytes = b"") -> None:
        """Send a response's head, and a body behind it."""
        self.send_raw(head_bytes(f"HTTP/1.1 {status}", fields) + body)

    def next_frame(self, timeout: float | None = None) -> Frame:
        """Return the next frame, and keep it in `frames`."""
        got = self.recv_frame(timeout)
        self.frames.append(got)
        return got

    def serve(self, echoes: bool = True) -> None:
        """Echo frames, answer Ping and Close, until the other side is gone."""
        with contextlib.suppress(StreamEnded, NotInTime, OSError):
            while True:
                got = self.next_frame(timeout=60)
                if got.opcode == CLOSE:
                    self.send_frame(CLOSE, got.payload)
                    return
                if got.opcode == PING:
                    self.send_frame(PONG, got.payload)
                elif got.opcode != PONG and echoes:
                    self.send_frame(got.opcode, got.payload, fin=got.fin, rsv=got.rsv)

    def echo(self, subprotocol: str | None = None, fields: Iterable[Field] = ()) -> None:
        """Accept, echo every frame with its fragmentation, answer Ping and Close, and close."""
        self.read_request()
        self.accept(subprotocol, fields)
        self.serve()
        self.close()


Script = Callable[[Connection], None]


@dataclass
class ScriptedUpstream:
    """A server whose connections are driven by `script`, each in a thread of its own.

    It listens on the port `at`, by default a free one. The script may be replaced at any time: a connection
    is driven by the one that is there when it comes.
    """

    script: Script | None = None
    tls: ssl.SSLContext | None = None
    connections: list[Connection] = field(default_factory=list)
    address: str = "127.0.0.1"
    at: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server((self.address, self.at), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def connection(self, number: int = -1, timeout: float = TIMEOUT) -> Connection:
        """Wait for a connection, and return it by its number, or the last one."""
        with self._changed:
            wanted = number + 1 if number >= 0 else 1
            if not self._changed.wait_for(lambda: len(self.connections) >= wanted, timeout):
                raise NotInTime(f"the upstream has {len(self.connections)} connections")
            return self.connections[number]

    def forget(self) -> None:
        """Drop all connections, and count them from 0 again."""
        with self._changed:
            old, self.connections = self.connections, []
        for connection in old:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.stream, socket.SHUT_RDWR)
        # A script that still reads TLS would read from the next owner of its descriptor.
        deadline = time.monotonic() + (5.0 if self.tls else 0.5)
        for connection in old:
            connection.finished.wait(max(0.0, deadline - time.monotonic()))
        for connection in old:
            connection.drop()

    def stop(self) -> None:
        """Close the port and all connections."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(
                target=self._drive, args=(stream, self.script or Connection.echo), daemon=True
            ).start()

    def _drive(self, stream: socket.socket, script: Script) -> None:
        if self.tls:
            stream.settimeout(TIMEOUT)
            try:
                stream = self.tls.wrap_socket(stream, server_side=True, suppress_ragged_eofs=False)
            except OSError:  # a client that does not trust us, or a probe
                stream.close()
                return
        with self._changed:
            connection = Connection(stream, len(self.connections))
            self.connections.append(connection)
            self._changed.notify_all()
        try:
            script(connection)
        except BaseException as problem:
            connection.problem = problem
        finally:
            connection.finished.set()

"""Raw WebSocket ends for the tests, on blocking sockets with deadlines: a client and a scripted upstream.

Nothing here checks what it sends: what is malformed is sent as it is asked for.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.websocket import (
    BINARY,
    CLOSE,
    KEY,
    PING,
    PONG,
    Field,
    Frame,
    Head,
    Mask,
    accept_of,
    accepting_fields,
    close_code,
    close_payload,
    frame,
    handshake_fields,
    head_bytes,
    take_frame,
)

TIMEOUT = 10.0


class End(enum.Enum):
    """How a stream ended."""

    FIN = "FIN"
    NOTIFIED = "close_notify"
    RST = "RST"


class StreamEnded(AssertionError):
    """The stream ended where bytes were expected."""

    def __init__(self, end: End, got: bytes) -> None:
        super().__init__(f"{end.value} after {len(got)} bytes: {got[:200]!r}")
        self.end = end
        self.got = got


class NotInTime(AssertionError):
    """Nothing, or not enough, came before the deadline."""


class Peer:
    """One end of a stream that carries a head and then frames."""

    def __init__(self, stream: socket.socket, masks: bool, timeout: float = TIMEOUT) -> None:
        self.stream = stream
        self.masks = masks
        self.timeout = timeout
        self.received = bytearray()
        """Every byte that ever came."""
        self.end: End | None = None
        self._pending = bytearray()
        if stream.family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # sending

    def send_raw(self, octets: bytes) -> None:
        """Send these bytes."""
        self.stream.settimeout(max(self.timeout, 30.0))
        self.stream.sendall(octets)

    def send_bytewise(self, octets: bytes, pause: float = 0.0) -> None:
        """Send these bytes one by one, each in a segment of its own."""
        for octet in octets:
            self.send_raw(bytes([octet]))
            if pause:
                time.sleep(pause)

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        fin: bool = True,
        rsv: int = 0,
        mask: Mask | None = None,
        length: int | None = None,
        length_bytes: int | None = None,
    ) -> None:
        """Send a frame; it is masked as this end has to, unless `mask` says otherwise."""
        mask = self.masks if mask is None else mask
        self.send_raw(frame(opcode, payload, fin, rsv, mask, length, length_bytes))

    def send_close(self, code: int | None = 1000, reason: str | bytes = b"") -> None:
        """Send a Close; with None as the code an empty one."""
        self.send_frame(CLOSE, close_payload(code, reason))

    # receiving

    def recv_exactly(self, size: int, timeout: float | None = None) -> bytes:
        """The next bytes, as many as asked for."""
        deadline = self._deadline(timeout)
        while len(self._pending) < size:
            self._read(deadline)
        return self._take(size)

    def recv_until(self, mark: bytes, timeout: float | None = None) -> bytes:
        """The next bytes up to and with this mark."""
        deadline = self._deadline(timeout)
        while (at := self._pending.find(mark)) < 0:
            self._read(deadline)
        return self._take(at + len(mark))

    def recv_head(self, timeout: float | None = None) -> Head:
        """The next head."""
        return Head.of(self.recv_until(b"\r\n\r\n", timeout))

    def recv_body(self, head: Head, timeout: float | None = None) -> bytes:
        """The body that follows a response's head: by its length, in chunks, or up to the end."""
        if head.status in (101, 204, 304):
            return b""
        if "chunked" in (head.one("Transfer-Encoding") or ""):
            body = b""
            while size := int(self.recv_until(b"\r\n", timeout).split(b";")[0], 16):
                body += self.recv_exactly(size, timeout)
                self.recv_exactly(2, timeout)
            self.recv_until(b"\r\n", timeout)
            return body
        length = head.one("Content-Length")
        if length is not None:
            return self.recv_exactly(int(length), timeout)
        return self.recv_rest(timeout)

    def recv_answer(self, timeout: float | None = None) -> tuple[Head, bytes]:
        """The next response: its head and its body."""
        head = self.recv_head(timeout)
        return head, self.recv_body(head, timeout)

    def recv_rest(self, timeout: float | None = None) -> bytes:
        """Everything up to the end of the stream."""
        self.recv_eof(timeout)
        return self._take(len(self._pending))

    def recv_frame(self, timeout: float | None = None) -> Frame:
        """The next frame."""
        deadline = self._deadline(timeout)
        while (taken := take_frame(self._pending)) is None:
            self._read(deadline)
        return taken

    def recv_close(self, timeout: float | None = None) -> tuple[int | None, str]:
        """The code and the reason of the next frame, which has to be a Close; (None, "") if it is empty."""
        got = self.recv_frame(timeout)
        assert got.opcode == CLOSE, f"a Close was expected, this came: {got.opcode:#x} {got.payload[:100]!r}"
        return close_code(got.payload), got.payload[2:].decode()

    def recv_eof(self, timeout: float | None = None) -> End:
        """How the stream ended; what came before the end stays to be read."""
        deadline = self._deadline(timeout)
        while self.end is None:
            with contextlib.suppress(StreamEnded):
                self._read(deadline)
        return self.end

    def is_silent(self, seconds: float) -> bool:
        """Whether neither a byte nor the end comes within this time."""
        if self._pending or self.end:
            return False
        try:
            self._read(self._deadline(seconds))
        except NotInTime:
            return True
        except StreamEnded:
            pass
        return False

    # ending

    def shutdown(self) -> None:
        """Send a FIN and keep reading."""
        self.stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the stream in the ordinary way."""
        with contextlib.suppress(OSError):
            if isinstance(self.stream, ssl.SSLSocket) and self.end is None:
                self.stream.settimeout(0.2)
                self.stream.unwrap()
        with contextlib.suppress(OSError):
            self.stream.close()

    def drop(self) -> None:
        """Let go of the stream without a word of TLS: a FIN, or an RST if there was something unread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.stream, socket.SHUT_RDWR)
        self.stream.close()

    def reset(self) -> None:
        """Send an RST."""
        with contextlib.suppress(OSError):
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _take(self, size: int) -> bytes:
        octets = bytes(self._pending[:size])
        del self._pending[:size]
        return octets

    def _read(self, deadline: float) -> None:
        """Read once, or say that it ended, or that it is too late."""
        if self.end:
            raise StreamEnded(self.end, bytes(self._pending))
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotInTime(f"waited in vain; pending: {bytes(self._pending[:200])!r}")
        self.stream.settimeout(left)
        try:
            octets = self.stream.recv(1 << 18)
        except TimeoutError:
            raise NotInTime(f"waited in vain; pending: {bytes(self._pending[:200])!r}") from None
        except ssl.SSLEOFError:
            self.end = End.FIN
        except OSError:  # among them a descriptor that the test has closed
            self.end = End.RST
        else:
            if octets:
                self.received += octets
                self._pending += octets
                return
            self.end = End.NOTIFIED if isinstance(self.stream, ssl.SSLSocket) else End.FIN
        raise StreamEnded(self.end, bytes(self._pending))


class Client(Peer):
    """A client; `tls` is a context, or True for one that trusts everybody; `before` goes out before that."""

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
        """Send an opening handshake; the answer's head, whatever it says."""
        self.send_opening(target, subprotocols, fields, host)
        return self.recv_head()

    def open(
        self,
        target: str | bytes = "/",
        subprotocols: Sequence[str] = (),
        fields: Iterable[Field] = (),
        host: str = "console.test",
    ) -> Head:
        """Send an opening handshake that has to succeed; the head of the 101."""
        head = self.ask(target, subprotocols, fields, host)
        assert head.status == 101, f"{head.line}\n{head.fields}"
        assert head.one("Sec-WebSocket-Accept") == accept_of(KEY), head.fields
        return head


def trusting_context() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection(Peer):
    """What a script drives: one connection that the scripted upstream has taken."""

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
        """The head of the opening handshake, kept in `request`."""
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
        """The next frame, which is also kept in `frames`."""
        got = self.recv_frame(timeout)
        self.frames.append(got)
        return got

    def serve(self, echoes: bool = True) -> None:
        """Echo frames as they come, answer Ping and Close, until the other side is gone."""
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
        """A connection by its number (the last one if none is given), as soon as there is one."""
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
        # A script that still reads TLS would read from whoever gets its descriptor next.
        deadline = time.monotonic() + 0.5
        for connection in old:
            connection.finished.wait(max(0.0, deadline - time.monotonic()))
        for connection in old:
            connection.drop()

    def stop(self) -> None:
        """Let go of the port and of all connections."""
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
            threading.Thread(target=self._drive, args=(stream, self.script or echo()), daemon=True).start()

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


# scripts


def echo(subprotocol: str | None = None, fields: Sequence[Field] = ()) -> Script:
    """Accept, echo every frame with its fragmentation, answer Ping and Close, and close."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.accept(subprotocol, fields)
        connection.serve()
        connection.close()

    return script


def opened(then: Script, subprotocol: str | None = None) -> Script:
    """Accept, and go on with another script."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.accept(subprotocol)
        then(connection)

    return script


def refuse(status: str, body: bytes = b"", fields: Sequence[Field] = ()) -> Script:
    """Answer the opening handshake with this status and body, and close."""

    def script(connection: Connection) -> None:
        connection.read_request()
        length: Field = ("Content-Length", str(len(body)))
        connection.send_head(status, [length, ("Connection", "close"), *fields], body)
        connection.close()

    return script


def answer(octets: bytes) -> Script:
    """Answer the opening handshake with these bytes, and close."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(octets)
        connection.close()

    return script


def wrong_accept(connection: Connection) -> None:
    """Answer with a 101 whose accept value belongs to another key."""
    connection.read_request()
    connection.send_head("101 Switching Protocols", accepting_fields("another"))
    connection.serve()


def endless_head(connection: Connection) -> None:
    """Answer with a head that never ends."""
    connection.read_request()
    connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n")
    with contextlib.suppress(OSError):
        for number in range(1 << 20):
            connection.send_raw(f"X-{number}: {'x' * 1000}\r\n".encode())


def sends(*frames: bytes) -> Script:
    """Accept, send these frames, serve, and close."""

    def then(connection: Connection) -> None:
        for octets in frames:
            connection.send_raw(octets)
        connection.serve()
        connection.close()

    return opened(then)


def drops_before_answer(connection: Connection) -> None:
    """Read the request and leave."""
    connection.read_request()
    connection.close()


def drops_mid_frame(size: int = 1000, sent: int = 10) -> Script:
    """Accept, announce a frame, send only a part of it and leave."""

    def then(connection: Connection) -> None:
        connection.send_raw(frame(BINARY, b"x" * sent, length=size))
        connection.drop()

    return opened(then)


def stays_after_close(connection: Connection) -> None:
    """Accept, answer a Close, and keep TCP open until the other side lets go."""
    connection.read_request()
    connection.accept()
    connection.serve()
    with contextlib.suppress(NotInTime):
        connection.recv_eof(60)


def silent(connection: Connection) -> None:
    """Read the request and say nothing more."""
    connection.read_request()
    with contextlib.suppress(NotInTime):
        connection.recv_eof(60)

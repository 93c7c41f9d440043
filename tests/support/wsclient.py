"""Raw WebSocket ends for the tests, on blocking sockets with deadlines: a client and a scripted upstream.

Nothing here checks what it sends: what is malformed is sent as it is asked for.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TIMEOUT = 10.0

Field = tuple[str | bytes, str | bytes]
Mask = bool | bytes


class End(enum.Enum):
    """How a stream ended."""

    FIN = "FIN"
    NOTIFIED = "close_notify"
    RST = "RST"


class Frame(NamedTuple):
    """One frame as it stood on the wire, unmasked."""

    fin: bool
    rsv: int
    opcode: int
    masked: bool
    payload: bytes


class StreamEnded(AssertionError):
    """The stream ended where bytes were expected."""

    def __init__(self, end: End, got: bytes) -> None:
        super().__init__(f"{end.value} after {len(got)} bytes: {got[:200]!r}")
        self.end = end
        self.got = got


class NotInTime(AssertionError):
    """Nothing, or not enough, came before the deadline."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or of a response, its fields in order and repeated as they were."""

    line: str
    fields: tuple[tuple[str, str], ...]
    raw: bytes

    @property
    def status(self) -> int:
        """A response's status."""
        return int(self.line.split(" ", 2)[1])

    @property
    def target(self) -> str:
        """A request's target."""
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Every value of this field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a field that may be there once; None if it is not."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


def accept_of(key: str) -> str:
    """The `Sec-WebSocket-Accept` value for a key (RFC 6455 4.2.2)."""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def masked(key: bytes, payload: bytes) -> bytes:
    """The payload masked, or unmasked, with a key of 4 bytes."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    fin: bool = True,
    rsv: int = 0,
    mask: Mask = False,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """A frame's bytes.

    `mask` is a key, or whether there is one. `length` is announced in the payload's stead, and
    `length_bytes` (0, 2 or 8) takes another form than the shortest, to make a frame that is wrong.
    """
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, bool(mask) << 7 | short])
    head += size.to_bytes(length_bytes, "big") if length_bytes else b""
    if not mask:
        return head + payload
    key = mask if isinstance(mask, bytes) else os.urandom(4)
    return head + key + masked(key, payload)


def close_payload(code: int | None, reason: str | bytes = b"") -> bytes:
    """The payload of a Close."""
    text = reason.encode() if isinstance(reason, str) else reason
    return b"" if code is None else struct.pack("!H", code) + text


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
        raw = self.recv_until(b"\r\n\r\n", timeout)
        line, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        fields = (entry.partition(":") for entry in rest)
        return Head(line, tuple((name, value.strip(" \t")) for name, _, value in fields), raw)

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
        self.recv_eof(timeout)
        return self._take(len(self._pending))

    def recv_frame(self, timeout: float | None = None) -> Frame:
        """The next frame."""
        deadline = self._deadline(timeout)

        def upto(size: int) -> None:
            while len(self._pending) < size:
                self._read(deadline)

        upto(2)
        first, second = self._pending[:2]
        size, at = second & 0x7F, 2
        if size > 125:
            at = 4 if size == 126 else 10
            upto(at)
            size = int.from_bytes(self._pending[2:at], "big")
        has_key = bool(second & 0x80)
        total = at + 4 * has_key + size
        upto(total)
        octets = self._take(total)
        payload = masked(octets[at : at + 4], octets[at + 4 :]) if has_key else octets[at:]
        return Frame(bool(first & 0x80), first >> 4 & 7, first & 0x0F, has_key, payload)

    def recv_close(self, timeout: float | None = None) -> tuple[int | None, str]:
        """The code and the reason of the next frame, which has to be a Close; (None, "") if it is empty."""
        got = self.recv_frame(timeout)
        assert got.opcode == CLOSE, f"a Close was expected, this came: {got.opcode:#x} {got.payload[:100]!r}"
        if not got.payload:
            return None, ""
        return int.from_bytes(got.payload[:2], "big"), got.payload[2:].decode()

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


def handshake_fields(
    subprotocols: Sequence[str] = (), fields: Iterable[Field] = (), host: str = "console.test", key: str = KEY
) -> list[Field]:
    """The fields of an ordinary opening handshake."""
    offered: list[Field] = [("Sec-WebSocket-Protocol", ", ".join(subprotocols))] if subprotocols else []
    return [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        *offered,
        *fields,
    ]


def head_bytes(line: str | bytes, fields: Iterable[Field]) -> bytes:
    """A head of this first line and these fields, byte for byte."""

    def octets(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode("latin-1")

    rows = [octets(line), *(octets(name) + b": " + octets(value) for name, value in fields)]
    return b"\r\n".join(rows) + b"\r\n\r\n"


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

    def send_request(self, line: str | bytes, fields: Iterable[Field]) -> None:
        """Send a request's head."""
        self.send_raw(head_bytes(line, fields))

    def ask(
        self,
        target: str | bytes = "/",
        subprotocols: Sequence[str] = (),
        fields: Iterable[Field] = (),
        host: str = "console.test",
    ) -> Head:
        """Send an opening handshake; the answer's head, whatever it says."""
        path = target if isinstance(target, bytes) else target.encode("latin-1")
        line = b"GET " + path + b" HTTP/1.1"
        self.send_request(line, handshake_fields(subprotocols, fields, host))
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
        chosen: list[Field] = [("Sec-WebSocket-Protocol", subprotocol)] if subprotocol else []
        self.send_head("101 Switching Protocols", [*self.upgrade_fields(), *chosen, *fields])

    def upgrade_fields(self) -> list[Field]:
        """The three fields that every right 101 has."""
        assert self.request is not None, "the request has not been read"
        accept = accept_of(self.request.one("Sec-WebSocket-Key") or "")
        return [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]

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
    """A server on a free port whose connections are driven by `script`, each in a thread of its own.

    The script may be replaced at any time: a connection is driven by the one that is there when it comes.
    """

    script: Script | None = None
    tls: ssl.SSLContext | None = None
    connections: list[Connection] = field(default_factory=list)
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self._listening = socket.create_server((self.address, 0), backlog=128)
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
    fields = [*connection.upgrade_fields()[:2], ("Sec-WebSocket-Accept", accept_of("another"))]
    connection.send_head("101 Switching Protocols", fields)
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

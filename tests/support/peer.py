"""One end of a stream that carries a head and then frames, on a blocking socket with deadlines."""

from __future__ import annotations

import contextlib
import enum
import socket
import ssl
import struct
import threading
import time
from types import TracebackType
from typing import Self

from tests.support.websocket import (
    CLOSE,
    Frame,
    Head,
    Mask,
    close_code,
    close_payload,
    frame,
    take_frame,
)

TIMEOUT = 20.0


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
    """Too little was received before the deadline."""


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
        self._sending = threading.Lock()
        """Held while bytes are sent: TLS mixes up what a script in a thread and the test send at a time."""
        if stream.family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # sending

    def send_raw(self, octets: bytes) -> None:
        """Send these bytes."""
        with self._sending:
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
        """Return the next bytes, as many as asked for."""
        deadline = self._deadline(timeout)
        while len(self._pending) < size:
            self._read(deadline)
        return self._take(size)

    def recv_until(self, mark: bytes, timeout: float | None = None) -> bytes:
        """Return the next bytes up to and with this mark."""
        deadline = self._deadline(timeout)
        while (at := self._pending.find(mark)) < 0:
            self._read(deadline)
        return self._take(at + len(mark))

    def recv_head(self, timeout: float | None = None) -> Head:
        """Return the next head."""
        return Head.of(self.recv_until(b"\r\n\r\n", timeout))

    def recv_body(self, head: Head, timeout: float | None = None) -> bytes:
        """Return the body behind a response's head: by its length, in chunks, or up to the end."""
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
        """Return the head and the body of the next response."""
        head = self.recv_head(timeout)
        return head, self.recv_body(head, timeout)

    def recv_rest(self, timeout: float | None = None) -> bytes:
        """Return everything up to the end of the stream."""
        self.recv_eof(timeout)
        return self._take(len(self._pending))

    def recv_frame(self, timeout: float | None = None) -> Frame:
        """Return the next frame."""
        deadline = self._deadline(timeout)
        while (taken := take_frame(self._pending)) is None:
            self._read(deadline)
        return taken

    def recv_close(self, timeout: float | None = None) -> tuple[int | None, str]:
        """Return the code and the reason of the next frame, a Close; (None, "") if it is empty."""
        got = self.recv_frame(timeout)
        assert got.opcode == CLOSE, f"a Close was expected, this came: {got.opcode:#x} {got.payload[:100]!r}"
        return close_code(got.payload), got.payload[2:].decode()

    def recv_eof(self, timeout: float | None = None) -> End:
        """Wait for the end of the stream, and return how it ended; bytes before that can still be read."""
        deadline = self._deadline(timeout)
        while self.end is None:
            with contextlib.suppress(StreamEnded):
                self._read(deadline)
        return self.end

    def is_silent(self, seconds: float) -> bool:
        """Return whether neither a byte nor the end comes within this time."""
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
        """Close the stream in order."""
        with contextlib.suppress(OSError):
            if isinstance(self.stream, ssl.SSLSocket) and self.end is None:
                self.stream.settimeout(0.2)
                self.stream.unwrap()
        with contextlib.suppress(OSError):
            self.stream.close()

    def drop(self) -> None:
        """Close the stream without a close_notify: with a FIN, or with an RST if there is unread data."""
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

"""A blocking WebSocket and RFB client for the tests: a raw socket with a deadline, and nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import struct

DEADLINE = 10.0
KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(
    hashlib.sha1((KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
).decode()

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Client:
    """One connection to 127.0.0.1."""

    def __init__(self, port: int, tls: bool = False, deadline: float = DEADLINE) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=deadline)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            raw = context.wrap_socket(raw, suppress_ragged_eofs=False)
        self.socket = raw
        self.buffer = b""
        self.stream = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def more(self) -> bool:
        """Wait for more bytes; False at the end of the connection."""
        try:
            received = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return False
        self.buffer += received
        return bool(received)

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.more():
                raise EOFError(f"{len(self.buffer)} of {size} bytes")
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while self.more():
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    def quiet(self, seconds: float = 0.3) -> bool:
        """Whether the peer sends nothing and keeps the connection for this long."""
        self.socket.settimeout(seconds)
        try:
            return not self.buffer and self.socket.recv(1) == b"never"
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(DEADLINE)

    def request(self, target: str, *fields: str, method: str = "GET") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def ask_upgrade(self, target: str, subprotocol: str | None = "binary") -> None:
        fields = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
        ]
        if subprotocol is not None:
            fields.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        self.request(target, *fields)

    def head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                raise EOFError(repr(self.buffer))
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines}
        return int(status.split(" ")[1]), fields

    def answer(self) -> tuple[int, dict[str, str], str]:
        status, fields = self.head()
        return status, fields, self.rest().decode()

    def open(self, target: str, subprotocol: str | None = "binary") -> dict[str, str]:
        """Shake hands; return the 101's fields."""
        self.ask_upgrade(target, subprotocol)
        status, fields = self.head()
        assert status == 101
        assert fields["sec-websocket-accept"] == ACCEPT
        return fields

    def send_frame(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack("!H", size)
        masked = bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload))
        self.send(bytes((0x80 | opcode,)) + length + mask + masked)

    def frame(self) -> tuple[int, bytes]:
        first, second = self.take(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.take(8))
        return first & 0x0F, self.take(size)

    def console(self, size: int, opcode: int = BINARY) -> bytes:
        """The next bytes of the console, whatever the messages' borders are."""
        while len(self.stream) < size:
            kind, payload = self.frame()
            assert kind == opcode, (kind, payload)
            if opcode == TEXT:
                payload = payload.decode().encode("latin-1")
            self.stream += payload
        taken, self.stream = self.stream[:size], self.stream[size:]
        return taken

    def start_rfb(self) -> tuple[int, int, str]:
        """RFB's handshake; width, height and name."""
        assert self.console(12) == b"RFB 003.008\n"
        self.send_frame(BINARY, b"RFB 003.008\n")
        assert self.console(2) == b"\x01\x01"
        self.send_frame(BINARY, b"\x01")
        assert self.console(4) == bytes(4)
        self.send_frame(BINARY, b"\x01")
        width, height = struct.unpack("!HH", self.console(4))
        self.console(16)
        (length,) = struct.unpack("!I", self.console(4))
        return width, height, self.console(length).decode()

    def ask_update(self, width: int, height: int, incremental: bool = False) -> None:
        self.send_frame(BINARY, struct.pack("!BBHHHH", 3, incremental, 0, 0, width, height))

    def update(self) -> list[tuple[int, int, int, int, bytes]]:
        """The next update's rectangles: x, y, width, height, pixels of four bytes."""
        kind, count = struct.unpack("!BxH", self.console(4))
        assert kind == 0
        rects = []
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack("!HHHHi", self.console(12))
            assert encoding == 0
            rects.append((x, y, width, height, self.console(width * height * 4)))
        return rects

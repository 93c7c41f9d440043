"""A blocking RFB client over WebSocket (RFC 6143), for consoles whose messages have any borders."""

from __future__ import annotations

import struct

from tests.support.websocket import BINARY, TEXT
from tests.support.websocket_peers import Client


class RfbClient(Client):
    """A client that reads the bytes of a console from its binary or text frames."""

    def __init__(
        self, port: int, tls: bool = False, timeout: float = 10.0, address: str = "127.0.0.1"
    ) -> None:
        super().__init__(port, tls=tls, timeout=timeout, address=address)
        self._console = bytearray()

    def console(self, size: int, opcode: int = BINARY) -> bytes:
        """Return the next bytes of the console, whose frames all have this opcode."""
        while len(self._console) < size:
            got = self.recv_frame()
            assert got.opcode == opcode, got
            self._console += got.payload.decode().encode("latin-1") if opcode == TEXT else got.payload
        taken = bytes(self._console[:size])
        del self._console[:size]
        return taken

    def start_rfb(self) -> tuple[int, int, str]:
        """Take the RFB handshake; return width, height and name of the screen."""
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
        """Request an update of the screen."""
        self.send_frame(BINARY, struct.pack("!BBHHHH", 3, incremental, 0, 0, width, height))

    def update(self) -> list[tuple[int, int, int, int, bytes]]:
        """Return the rectangles of the next update: x, y, width, height, pixels of four bytes."""
        kind, count = struct.unpack("!BxH", self.console(4))
        assert kind == 0
        rects = []
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack("!HHHHi", self.console(12))
            assert encoding == 0
            rects.append((x, y, width, height, self.console(width * height * 4)))
        return rects

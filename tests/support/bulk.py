"""Frames of any size between two ends, sent in a thread of its own and compared by their checksum."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Callable

from tests.support.peer import Peer
from tests.support.websocket import BINARY, frame

MIB = 1 << 20
PIECE = 64 * 1024
KEY = b"\x01\x02\x03\x04"
POOL = random.Random(2).randbytes(MIB + PIECE)


class Sender(threading.Thread):
    """Sends one frame of this size in writes of 64 KiB, in a thread of its own."""

    def __init__(self, peer: Peer, size: int, patience: float = 60.0) -> None:
        super().__init__(daemon=True)
        self.head = frame(BINARY, length=size, mask=KEY if peer.masks else False)
        self.sent = self.checksum = 0
        self.problem: BaseException | None = None
        self._peer = peer
        self._size = size
        peer.stream.settimeout(patience)
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
        """Return a function that returns whether nothing could be sent for a second."""
        last, since = -1, 0.0

        def ask() -> bool:
            nonlocal last, since
            if self.sent != last:
                last, since = self.sent, time.monotonic()
            return time.monotonic() - since > 1.0

        return ask


def receive(peer: Peer, head: bytes, size: int, patience: float = 60.0) -> int:
    """Read one frame with this head, and return the checksum of its payload."""
    assert peer.recv_exactly(len(head)) == head
    early = peer.recv_exactly(min(size, len(peer._pending)))
    checksum, left = zlib.crc32(early), size - len(early)
    room = memoryview(bytearray(256 * 1024))
    peer.stream.settimeout(patience)
    while left:
        count = peer.stream.recv_into(room, min(left, len(room)))
        assert count, f"the stream ended {left} bytes early"
        checksum = zlib.crc32(room[:count], checksum)
        left -= count
    return checksum

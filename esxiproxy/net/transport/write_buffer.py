"""Bytes that a socket has not taken yet."""

from __future__ import annotations


class WriteBuffer:
    """A queue of bytes whose front piece stays unchanged until all of it is taken.

    OpenSSL requires this: after WANT_WRITE the same bytes have to be written again, and no others first.
    Bytes that are added meanwhile are joined into the next front piece.
    """

    __slots__ = ("_front", "_rest", "size")

    def __init__(self) -> None:
        self.size = 0
        self._front: memoryview | None = None
        self._rest: list[bytes | memoryview] = []

    def append(self, octets: bytes | memoryview) -> None:
        """Append bytes, or a view of immutable bytes."""
        self._rest.append(octets)
        self.size += len(octets)

    def front(self) -> memoryview:
        """Return the bytes to be written next; the buffer must not be empty."""
        if self._front is None:
            self._front = memoryview(b"".join(self._rest))
            self._rest.clear()
        return self._front

    def consume(self, count: int) -> None:
        """Remove this number of bytes from the front."""
        assert self._front is not None
        self.size -= count
        self._front = self._front[count:] if count < len(self._front) else None

    def clear(self) -> None:
        """Discard all bytes."""
        self.size = 0
        self._front = None
        self._rest.clear()

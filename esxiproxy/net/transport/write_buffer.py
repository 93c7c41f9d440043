"""What a socket has not taken yet."""

from __future__ import annotations


class WriteBuffer:
    """A queue of bytes with one front piece, which stays as it is until it is taken whole.

    OpenSSL wants that: after WANT_WRITE the same bytes have to be offered again, no fewer, and nothing may
    overtake them.  What comes in meanwhile waits behind the front, and is joined once.
    """

    __slots__ = ("_front", "_rest", "size")

    def __init__(self) -> None:
        self.size = 0
        self._front: memoryview | None = None
        self._rest: list[bytes | memoryview] = []

    def put(self, octets: bytes | memoryview) -> None:
        """Append; a view has to be one of immutable bytes."""
        self._rest.append(octets)
        self.size += len(octets)

    def front(self) -> memoryview:
        """What is to be offered next; ask only when there is something."""
        if self._front is None:
            self._front = memoryview(b"".join(self._rest))
            self._rest.clear()
        return self._front

    def taken(self, count: int) -> None:
        """So many bytes of the front are gone."""
        assert self._front is not None
        self.size -= count
        self._front = self._front[count:] if count < len(self._front) else None

    def clear(self) -> None:
        """Forget it all."""
        self.size = 0
        self._front = None
        self._rest.clear()

"""The framing of message bodies (RFC 9112 6), passed on without a parser's events.

A body is a :class:`FixedBody`, an :class:`OpenBody` or a
:class:`~esxiproxy.core.http.chunked_body.ChunkedBody`.  ``take`` gets received bytes and returns the bytes
for the other side, which are mostly the same object.
"""

from __future__ import annotations

from esxiproxy.core.errors import UpstreamLost

END_OF_CHUNKS = b"0\r\n\r\n"


class Body:
    """The body of one message, received from one side and framed for the other.

    ``octets``
        bytes of the body that were received, without their framing.
    ``is_complete``
        whether the end of the body was received.
    ``trailing``
        the bytes that were received behind the end.
    ``more``
        whether ``take(b"")`` has to read further chunks in another turn of the reactor.
    ``left``
        the bytes that have not been received, until the end or the next chunk's line.
    ``verbatim``
        whether the next bytes pass unchanged, so that the fast path may forward them.
    ``heard``
        whether the fast path has forwarded bytes since this flag was cleared.
    """

    # The fast path (net/transport/scan_body.c) reads and updates these by the offset of their slots.
    __slots__ = ("heard", "is_complete", "left", "more", "octets", "trailing", "verbatim")

    def __init__(self) -> None:
        self.left = self.octets = 0
        self.is_complete = self.more = self.verbatim = self.heard = False
        self.trailing = b""

    @property
    def is_invalid(self) -> bool:
        """Whether the next call of :meth:`take` raises an error."""
        return False

    def take(self, octets: bytes) -> bytes:
        """Add received bytes and return the bytes for the other side."""
        raise NotImplementedError

    def release(self, held: bytes) -> bytes:
        """Return ``held``, the payload so far, framed for the other side, and frame all that follows.

        Call it for a body that was created with ``payload_only`` and is not complete.
        """
        return held

    def end(self, clean: bool) -> bytes:
        """Note the end of the upstream's connection and return the last bytes for the client.

        ``clean`` is whether it ended with a FIN.  Raise UpstreamLost for a body that is incomplete.
        """
        if self.is_complete:
            return b""
        if not clean:
            raise UpstreamLost("the upstream's connection was reset before the answer was complete")
        raise UpstreamLost("the upstream ended the connection before the answer was complete")


class FixedBody(Body):
    """A body of ``length`` bytes (Content-Length)."""

    __slots__ = ()

    def __init__(self, length: int) -> None:
        super().__init__()
        self.left = length
        self.is_complete = length == 0
        self.verbatim = length > 0

    def take(self, octets: bytes) -> bytes:
        size = len(octets)
        if size < self.left:
            self.left -= size
            self.octets += size
            return octets
        left, self.left = self.left, 0
        self.octets += left
        self.is_complete, self.verbatim = True, False
        if size == left:
            return octets
        self.trailing += octets[left:]
        return octets[:left]


class OpenBody(Body):
    """A body that ends with the connection.

    ``chunked`` is whether it is chunked for the other side, so that a cut is detected.
    """

    __slots__ = ("_chunked", "_payload_only")

    def __init__(self, chunked: bool, payload_only: bool = False) -> None:
        super().__init__()
        self._chunked = chunked
        self._payload_only = payload_only

    def take(self, octets: bytes) -> bytes:
        if self.is_complete:
            self.trailing += octets
            return b""
        self.octets += len(octets)
        return octets if self._payload_only else self._framed(octets)

    def _framed(self, octets: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(octets), octets) if self._chunked and octets else octets

    def release(self, held: bytes) -> bytes:
        self._payload_only = False
        return self._framed(held)

    def end(self, clean: bool) -> bytes:
        if not self.is_complete and clean:
            self.is_complete = True
            return END_OF_CHUNKS if self._chunked and not self._payload_only else b""
        return super().end(clean)

"""A strict reader of the chunked coding of a message body (RFC 9112 7.1)."""

from __future__ import annotations

import re

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.head import MAX_FIELDS, MAX_HEAD

MAX_LINE = 1024
"""Maximum size in bytes of the line that begins a chunk, its extensions included."""
CHUNKS_PER_TURN = 256
"""Maximum number of chunks that one call of :meth:`Chunks.take` reads."""
MIN_COUNTED_CHUNKS = 64
"""Minimum number of chunks in one call that are counted.  An event stream has fewer."""
CHUNKS_PER_CHECK = 16 * 1024
"""Number of counted chunks after which their mean size is checked."""
MIN_MEAN_SIZE = 8
"""Minimum mean size in bytes of these chunks.  A body with smaller chunks is refused."""

_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")


class Chunks:
    """A reader that checks a chunked body and joins its chunks for h11.

    h11 accepts more than RFC 9112 does, and makes an event of each chunk.

    ``feed`` adds bytes of the body.  ``take`` returns the same body with the chunks of one read joined into
    one chunk, without extensions.  ``more`` is true when ``take`` has left whole chunks for another turn of
    the reactor.  Errors are of the class ``error``, and their messages begin with ``name``.
    """

    def __init__(self, error: type[SessionError], name: str) -> None:
        self._error = error
        self._name = name
        self._buffer = b""
        self._position = 0
        self._searched = 0
        self._chunk_left = 0
        self._in_data = self._in_trailers = self._over = False
        self._trailers: list[bytes] = []
        self._trailers_size = 0
        self._counted_chunks = self._counted_octets = 0
        self._fault: SessionError | None = None
        self.more = False

    @property
    def is_invalid(self) -> bool:
        """Whether the next call of :meth:`take` raises."""
        return self._fault is not None

    def feed(self, octets: bytes) -> None:
        """Add bytes of the body."""
        if self._position:
            self._buffer = self._buffer[self._position :]
            self._searched = max(0, self._searched - self._position)
            self._position = 0
        self._buffer = self._buffer + octets if self._buffer else octets

    def take(self) -> bytes:
        """Return the data of the next chunks as one chunk, and the end of the body if it was reached.

        One call reads at most ``CHUNKS_PER_TURN`` chunks.  Bytes behind the body are returned behind its end.

        Raise ``error`` for a body that violates the framing of RFC 9112, or whose chunks stay tiny.  If there
        is data in front of the fault, the call returns this data, and the next call raises.
        """
        if self._fault is not None:
            raise self._fault
        pieces: list[bytes] = []
        self.more = False
        try:
            count = self._read(pieces)
            data = b"".join(pieces)
            self._count(count, len(data))
        except self._error as fault:
            self._fault, self.more = fault, False
            if not pieces or self._over:  # the end of the body would hide the fault
                raise
            data = b"".join(pieces)
        octets = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self._over:
            octets += b"0\r\n%b\r\n%b" % (b"".join(self._trailers), self._buffer[self._position :])
            self._buffer, self._position, self._trailers = b"", 0, []
        return octets

    def _read(self, pieces: list[bytes]) -> int:
        """Append the data of the next chunks to ``pieces`` and return the number of these chunks."""
        count = 0
        while self._position < len(self._buffer) and not self._over:
            if self._in_data:
                if not self._read_payload(pieces):
                    break
            elif self._in_trailers:
                if not self._read_trailer():
                    break
            elif count == CHUNKS_PER_TURN:
                self.more = True
                break
            elif not self._read_size():
                break
            else:
                count += 1
        return count

    def _read_size(self) -> bool:
        """Read the line that begins a chunk.  Return False if it is not complete."""
        buffer, at = self._buffer, self._position
        match = _LINE.match(buffer, at)
        if match is None:
            if buffer.find(b"\n", at, at + MAX_LINE) >= 0 or len(buffer) - at >= MAX_LINE:
                self._fail(f"has a chunk whose first line is not SIZE;EXTENSION in {MAX_LINE} bytes")
            return False
        if match.end() - at > MAX_LINE:
            self._fail(f"has a chunk whose first line is not SIZE;EXTENSION in {MAX_LINE} bytes")
        self._position = match.end()
        self._chunk_left = int(match.group(1), 16)
        self._in_data = self._chunk_left > 0
        self._in_trailers = self._chunk_left == 0
        return True

    def _read_payload(self, pieces: list[bytes]) -> bool:
        """Read the data of a chunk and the line end behind it.  Return False if these are not complete."""
        buffer, at = self._buffer, self._position
        if self._chunk_left:
            piece = buffer[at : at + self._chunk_left]
            pieces.append(piece)
            self._position = at = at + len(piece)
            self._chunk_left -= len(piece)
            if self._chunk_left or at == len(buffer):
                return False
        end = buffer[at : at + 2]
        if end != b"\r\n":
            if end != b"\r":
                self._fail("has a chunk that does not end after its size")
            return False
        self._position = at + 2
        self._in_data = False
        return True

    def _read_trailer(self) -> bool:
        """Read one line behind the last chunk.  Return False if it is not complete."""
        end = self._buffer.find(b"\n", max(self._position, self._searched)) + 1
        self._searched = end or len(self._buffer)
        size = (end or len(self._buffer)) - self._position
        if self._trailers_size + size > MAX_HEAD or len(self._trailers) > MAX_FIELDS:
            self._fail(f"has trailer fields of more than {MAX_HEAD} bytes, or more than {MAX_FIELDS} of them")
        if not end:
            return False
        line = self._buffer[self._position : end]
        self._position = end
        if line == b"\r\n":
            self._over = True
            return True
        if _TRAILER_LINE.fullmatch(line) is None:
            self._fail("has a trailer field that is not NAME: VALUE")
        self._trailers.append(line)
        self._trailers_size += size
        return True

    def _count(self, chunks: int, octets: int) -> None:
        """Count the chunks of one call.  Raise ``error`` for a flood of tiny chunks."""
        if chunks < MIN_COUNTED_CHUNKS:
            return
        self._counted_chunks += chunks
        self._counted_octets += octets
        if self._counted_chunks >= CHUNKS_PER_CHECK:
            if self._counted_octets < MIN_MEAN_SIZE * self._counted_chunks:
                self._fail(
                    f"has {self._counted_chunks} chunks with less than {MIN_MEAN_SIZE} bytes each on average"
                )
            self._counted_chunks = self._counted_octets = 0

    def _fail(self, what: str) -> None:
        raise self._error(f"{self._name} {what}")

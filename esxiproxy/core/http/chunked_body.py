"""A chunked message body, read strictly and passed on (RFC 9112 7.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from esxiproxy.core.errors import BodyTooLarge, SessionError
from esxiproxy.core.http.body import END_OF_CHUNKS, Body
from esxiproxy.core.http.head import MAX_FIELDS, MAX_HEAD, Fields

MAX_LINE = 1024
"""Maximum size in bytes of the line that begins a chunk, its extensions included."""
CHUNKS_PER_TURN = 256
"""Maximum number of chunks that one call of :meth:`ChunkedBody.take` reads."""
MIN_COUNTED_CHUNKS = 64
"""Minimum number of chunks in one call that are counted.  An event stream has fewer."""
CHUNKS_PER_CHECK = 16 * 1024
"""Number of counted chunks after which their mean size is checked."""
MIN_MEAN_SIZE = 8
"""Minimum mean size in bytes of these chunks.  A body with smaller chunks is refused."""
MAX_PLAIN_SIZE = 0xFFF_FFFF
"""Maximum size of a chunk that is passed on as one chunk, so that no receiver's integer overflows."""

_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_PLAIN_LINE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,6})\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")
_CRLF = b"\r\n"

TrailerFilter = Callable[[Fields], Iterable[tuple[bytes, bytes]]]
"""A function that returns the trailer fields for the other side."""


class ChunkedBody(Body):
    """A body in the chunked coding, read strictly (RFC 9112 7.1).

    Errors are of the class ``error``, and their messages begin with ``name``.  Checked chunks pass as they
    are.  Extensions, white space and leading zeros are removed, and a chunk over ``MAX_PLAIN_SIZE`` is passed
    on as several.  ``payload_only`` is whether the other side gets the data without its framing.
    ``trailers`` chooses the trailer fields for the other side, which gets none without it.  ``max_body`` is
    the maximum number of payload bytes.

    ``left``
        bytes until the next chunk's line: the rest of the data, and the line end behind it.
    ``rest``
        the bytes that were received and not read: a part of a line, or the chunks of another turn.
    """

    __slots__ = (
        "_at",
        "_counted_chunks",
        "_counted_octets",
        "_error",
        "_fault",
        "_in_trailers",
        "_name",
        "_payload_only",
        "_pieces",
        "_searched",
        "_start",
        "_trailer_filter",
        "_trailers",
        "_trailers_size",
        "max_body",
        "rest",
    )

    def __init__(
        self,
        error: type[SessionError],
        name: str,
        trailers: TrailerFilter | None = None,
        max_body: int | None = None,
        payload_only: bool = False,
    ) -> None:
        super().__init__()
        self._error, self._name = error, name
        self._trailer_filter = trailers
        self.max_body = max_body
        self._payload_only = payload_only
        self.verbatim = not payload_only
        self.rest = b""
        # Offsets in `rest`: of the next byte, of the first one to pass on, and of the search for a line end.
        self._at = self._start = self._searched = 0
        self._pieces: list[bytes] = []
        self._in_trailers = False
        self._trailers: list[tuple[bytes, bytes]] = []
        self._trailers_size = 0
        self._counted_chunks = self._counted_octets = 0
        self._fault: SessionError | None = None

    @property
    def is_invalid(self) -> bool:
        return self._fault is not None

    def take(self, octets: bytes) -> bytes:
        """Add received bytes and return the bytes for the other side.

        One call reads at most ``CHUNKS_PER_TURN`` chunks.

        Raise ``error`` for a body that violates the framing of RFC 9112, or whose chunks stay tiny.  If there
        is data in front of the fault, the call returns this data, and the next call raises; a body that ends
        is never passed on with a fault.  Raise BodyTooLarge for more payload than ``max_body``, whatever is
        behind it.
        """
        if self._fault is not None:
            raise self._fault
        if self.is_complete:
            self.trailing += octets
            return b""
        self._add(octets)
        before = self.octets
        fault: SessionError | None = None
        try:
            self._count(self._read(), self.octets - before)
        except self._error as error:
            fault = error
        pieces = self._take_pieces()
        if self.max_body is not None and self.octets > self.max_body:
            pieces = []
            fault = BodyTooLarge(f"the body has more than {self.max_body} bytes")
        if fault is not None:
            if self.is_complete:
                pieces = []  # or the other side would get a whole body
            self._set_fault(fault)
            if not pieces:
                raise fault
        if self.is_complete:
            self.trailing, self.rest = self.rest, b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self, held: bytes) -> bytes:
        self._payload_only = False
        self.verbatim = self.left == 0 and not self._in_trailers
        return b"%x\r\n%b\r\n" % (len(held), held) if held else b""

    def _add(self, octets: bytes) -> None:
        """Add received bytes to ``rest``, or nothing in another turn."""
        self.more = False
        if self.rest and octets:
            self.rest = self.rest[self._at :] + octets
            self._searched = max(0, self._searched - self._at)
            self._at = self._start = 0
        elif octets:
            self.rest = octets

    def _take_pieces(self) -> list[bytes]:
        """Return the bytes for the other side, and keep those that are not read."""
        self._flush()
        if not self.more:
            self.rest = self.rest[self._at :]
            self._searched = max(0, self._searched - self._at)
            self._at = self._start = 0
        pieces, self._pieces = self._pieces, []
        return pieces

    def _set_fault(self, fault: SessionError) -> None:
        self._fault = fault
        self.more = self.verbatim = self.is_complete = False

    def _flush(self) -> None:
        """Pass the bytes from ``_start`` to ``_at`` on as they are."""
        if self._start < self._at:
            self._pieces.append(self.rest[self._start : self._at])
            self._start = self._at

    def _read(self) -> int:
        """Read the next chunks and return their number."""
        count, end = 0, len(self.rest)
        while self._at < end and not self.is_complete:
            if self.left > 2:
                self._read_payload(end)
            elif self.left:
                self._read_line_end()
            elif self._in_trailers:
                if not self._read_trailer():
                    break
            elif count == CHUNKS_PER_TURN:
                self.more = True
                break
            elif self.verbatim and (chunks := self._skip_plain_chunks(end, CHUNKS_PER_TURN - count)):
                count += chunks
            elif not self._read_size():
                break
            else:
                count += 1
        return count

    def _skip_plain_chunks(self, end: int, limit: int) -> int:
        """Pass over whole chunks that need no change, at most ``limit``, and return their number."""
        rest, at = self.rest, self._at
        count = octets = 0
        while count < limit and (line := _PLAIN_LINE.match(rest, at)) is not None:
            size = int(line[1], 16)
            behind = line.end() + size + 2
            if behind > end or rest[behind - 2 : behind] != _CRLF:
                break
            at = behind
            octets += size
            count += 1
        self._at = at
        self.octets += octets
        if count < limit and rest.startswith(END_OF_CHUNKS, at):
            self._at += len(END_OF_CHUNKS)
            self.is_complete, self.verbatim = True, False
            count += 1
        return count

    def _read_size(self) -> bool:
        """Read the line that begins a chunk.  Return False if it is not complete."""
        rest, at = self.rest, self._at
        line = _LINE.match(rest, at)
        if line is None:
            if rest.find(b"\n", at, at + MAX_LINE) >= 0 or len(rest) - at >= MAX_LINE:
                self._fail(f"has a chunk whose first line is not SIZE;EXTENSION in {MAX_LINE} bytes")
            return False
        if line.end() - at > MAX_LINE:
            self._fail(f"has a chunk whose first line is not SIZE;EXTENSION in {MAX_LINE} bytes")
        size = int(line[1], 16)
        if size:
            self.left = size + 2
            if self.verbatim and _PLAIN_LINE.match(rest, at):
                self._at = line.end()
                return True
        self._flush()
        self._at = self._start = line.end()
        if not size:
            self._in_trailers, self.verbatim = True, False
        elif size > MAX_PLAIN_SIZE:
            self.verbatim = False
        elif self.verbatim:
            self._pieces.append(b"%x\r\n" % size)
        return True

    def _read_payload(self, end: int) -> None:
        """Read the data of a chunk, or the part of it that was received."""
        at = self._at
        size = min(self.left - 2, end - at)
        self._at = at + size
        self.left -= size
        self.octets += size
        if not self.verbatim:
            piece = self.rest[at : self._at]
            self._pieces.append(piece if self._payload_only else b"%x\r\n%b\r\n" % (size, piece))
            self._start = self._at

    def _read_line_end(self) -> None:
        """Read the line end behind the data of a chunk, or a part of it."""
        found = self.rest[self._at : self._at + self.left]
        if not _CRLF[-self.left :].startswith(found):
            self._fail("has a chunk that does not end after its size")
        self._at += len(found)
        self.left -= len(found)
        if not self.verbatim:
            self._start = self._at
            self.verbatim = not self.left and not self._payload_only

    def _read_trailer(self) -> bool:
        """Read one line behind the last chunk.  Return False if it is not complete."""
        at = self._at
        end = self.rest.find(b"\n", max(at, self._searched)) + 1
        self._searched = end or len(self.rest)
        size = (end or len(self.rest)) - at
        if self._trailers_size + size > MAX_HEAD or len(self._trailers) > MAX_FIELDS:
            self._fail(f"has trailer fields of more than {MAX_HEAD} bytes, or more than {MAX_FIELDS} of them")
        if not end:
            return False
        line = self.rest[at:end]
        self._at = self._start = end
        if line == _CRLF:
            self.is_complete = True
            if not self._payload_only:
                self._pieces.append(self._last_chunk())
            return True
        if _TRAILER_LINE.fullmatch(line) is None:
            self._fail("has a trailer field that is not NAME: VALUE")
        name, _, value = line.partition(b":")
        self._trailers.append((name, value.strip(b" \t\r\n")))
        self._trailers_size += size
        return True

    def _last_chunk(self) -> bytes:
        """Return the last chunk and the trailer fields for the other side."""
        if not self._trailers or self._trailer_filter is None:
            return END_OF_CHUNKS
        fields = self._trailer_filter(tuple(self._trailers))
        return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in fields)

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

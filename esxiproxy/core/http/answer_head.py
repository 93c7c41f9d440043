"""A strict reader of the heads of upstreams' responses (RFC 9112 sections 2 to 6).

A head decides once where the body ends.  Mistakes of old web servers that cannot move this end are tolerated:
LF as a line end, a missing reason, folded lines (RFC 9112 5.2), equal Content-Lengths (RFC 9110 8.6), and
control characters in values but NUL, CR, LF, VT and FF.  The reader refuses everything else that is not in
the grammar, and also:

- Content-Length beside Transfer-Encoding, and Transfer-Encoding outside HTTP/1.1, where two readers may find
  two ends of the body (RFC 9112 6.1);
- each Transfer-Encoding but ``chunked``, since the proxy never asks for another one;
- a Content-Length of more than 18 digits, which other readers would not hold in 64 bits (RFC 9110 8.6);
- more than ``MAX_ANSWER_FIELDS`` fields.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.http.head import Fields, tokens

MAX_ANSWER_HEAD = 64 * 1024
"""Maximum size in bytes of a response head, which may have many cookies."""
MAX_ANSWER_FIELDS = 1000
"""Maximum number of fields of a response."""
MAX_INTERIM = 32
"""Maximum number of interim responses (1xx) in one read."""
MAX_EMPTY = 8
"""Maximum number of empty lines in front of a status line."""

_PROTOCOL = b"HTTP/1."
_NO_HTTP = "the upstream's answer is no HTTP/1.1"
_END = re.compile(rb"\n\r?\n")
_TEXT = rb"[^\x00\n\x0b\x0c\r]*"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: (%b))?\r?\n" % _TEXT)
_FIELD_LINES = re.compile(rb"(?:%b:%b\r?\n)*\r?\n" % (_TOKEN, _TEXT))
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


class Framing(Enum):
    """The place at which the body of a response ends."""

    NONE = "none"
    """There is no body, whatever the fields say."""
    LENGTH = "length"
    """After Content-Length bytes."""
    CHUNKED = "chunked"
    """After the last chunk and its trailer fields."""
    UNTIL_CLOSE = "until close"
    """At the end of the connection."""


class AnswerHead(NamedTuple):
    """The head of a response.

    ``minor`` is the minor version of HTTP/1.  Field names in ``fields`` keep their case, and values have no
    white space around them.  ``length`` is the Content-Length of a body that is framed by it, else 0.
    ``connection`` has the elements of Connection in lower case.
    """

    minor: int
    status: int
    reason: bytes
    fields: Fields
    framing: Framing
    length: int
    connection: tuple[bytes, ...]

    @property
    def closes(self) -> bool:
        """Whether the upstream closes its connection after the response."""
        return self.minor == 0 or b"close" in self.connection

    def __repr__(self) -> str:
        """Return a text for logs and tracebacks, without field values."""
        return f"<AnswerHead {self.status}, {len(self.fields)} fields, body {self.framing.value}>"


class AnswerHeadReader:
    """An incremental reader of the heads of one response: those of interim responses, and the final one.

    ``bodiless`` is whether the request is a HEAD.  ``max_head`` is the maximum size in bytes of one head.
    ``started`` is whether a byte has arrived.
    """

    def __init__(self, bodiless: bool = False, max_head: int = MAX_ANSWER_HEAD) -> None:
        self._bodiless = bodiless
        self._max_head = max_head
        self._buffer: bytes | bytearray = b""
        self._searched = 0
        self._empty = self._interim = 0
        self.started = False

    @property
    def rest(self) -> bytes:
        """The bytes behind the last head: the body's, or after a 101 the first frames."""
        return bytes(self._buffer)

    def feed(self, octets: bytes) -> None:
        """Add bytes of one read."""
        self.started = True
        self._interim = 0
        if not self._buffer:
            self._buffer = octets
            return
        if isinstance(self._buffer, bytes):
            self._buffer = bytearray(self._buffer)
        self._buffer += octets

    def take(self) -> AnswerHead | None:
        """Return the next head, or None if it is not complete.  Raise UpstreamInvalid.

        A head that cannot become HTTP/1.x, or that is too large, is refused before it is complete.
        """
        if not self._buffer.startswith(_PROTOCOL):
            self._check_start()
        match = _END.search(self._buffer, max(0, self._searched - 2))
        self._searched = len(self._buffer)
        size = self._searched if match is None else match.end()
        if size > self._max_head:
            raise UpstreamInvalid(f"the upstream's answer has a head over {self._max_head} bytes")
        if match is None:
            return None
        head = parse_answer(bytes(self._buffer[:size]), self._bodiless)
        self._buffer = self._buffer[size:]
        self._searched = 0
        if head.status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise UpstreamInvalid(f"the upstream sent more than {MAX_INTERIM} interim answers at once")
        return head

    def _check_start(self) -> None:
        """Skip the empty lines in front of a status line.  Raise UpstreamInvalid for other bytes there."""
        while self._buffer.startswith(b"\r\n") and self._empty < MAX_EMPTY:
            self._empty += 1
            self._buffer = self._buffer[2:]
            self._searched = 0
        start = self._buffer[: len(_PROTOCOL)]
        if not _PROTOCOL.startswith(start) and (start != b"\r" or self._empty == MAX_EMPTY):
            raise UpstreamInvalid(_NO_HTTP)


def parse_answer(raw: bytes, bodiless: bool = False) -> AnswerHead:
    """Return the head in these bytes, which end with its empty line.  Raise UpstreamInvalid.

    ``bodiless`` is whether the request is a HEAD.
    """
    line = _STATUS_LINE.match(raw)
    if line is None:
        raise UpstreamInvalid(_NO_HTTP)
    start = line.end()
    if _FIELD_LINES.fullmatch(raw, start) is None:
        raw, start = _unfolded(raw[start:]), 0
        if _FIELD_LINES.fullmatch(raw) is None:
            raise UpstreamInvalid("the upstream's answer has a field line that is not NAME: VALUE")
    if raw.count(b"\n", start) > MAX_ANSWER_FIELDS + 1:
        raise UpstreamInvalid(f"the upstream's answer has more than {MAX_ANSWER_FIELDS} fields")
    split = [each.partition(b":") for each in raw[start:].split(b"\n")[:-2]]
    fields = [(name, value.strip(b" \t\r")) for name, _, value in split]
    minor, status, reason = line.groups(b"")
    return _framed(int(minor), int(status), reason, fields, bodiless)


def _unfolded(lines: bytes) -> bytes:
    """Return field lines without folding (RFC 9112 5.2).  The first line cannot continue another one."""
    return lines if lines.startswith((b" ", b"\t")) else _FOLD.sub(b" ", lines)


def _framed(
    minor: int, status: int, reason: bytes, fields: list[tuple[bytes, bytes]], bodiless: bool
) -> AnswerHead:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    for name, value in fields:
        key = name.lower()
        if key not in _FRAMING:
            continue
        if key == b"content-length":
            lengths.append(value)
        elif key == b"transfer-encoding":
            codings.append(value)
        else:
            connection += tokens([value])
    length = 0
    if lengths:
        value = lengths[0]
        if len(lengths) > 1 or b"," in value:
            value = _one_length(lengths)
            fields = _with_length(fields, value)
        if _LENGTH.fullmatch(value) is None:
            raise UpstreamInvalid("the Content-Length of the upstream's answer is not one number")
        length = int(value)
    if codings:
        if lengths:
            raise UpstreamInvalid("the upstream's answer has Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise UpstreamInvalid("the Transfer-Encoding of the upstream's answer is not chunked")
        if minor != 1:
            raise UpstreamInvalid("the upstream's answer has a Transfer-Encoding outside HTTP/1.1")
    if bodiless or status < 200 or status in (204, 304):
        framing, length = Framing.NONE, 0
    elif codings:
        framing = Framing.CHUNKED
    else:
        framing = Framing.LENGTH if lengths else Framing.UNTIL_CLOSE
    return AnswerHead(minor, status, reason, tuple(fields), framing, length, tuple(connection))


def _one_length(lengths: list[bytes]) -> bytes:
    """Return the number of several equal Content-Lengths (RFC 9110 8.6).  Raise UpstreamInvalid."""
    numbers = {number.strip(b" \t") for value in lengths for number in value.split(b",")}
    if len(numbers) != 1:
        raise UpstreamInvalid("the upstream's answer has several Content-Lengths")
    return numbers.pop()


def _with_length(fields: list[tuple[bytes, bytes]], length: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields with one Content-Length, at the place of the first."""
    found: list[tuple[bytes, bytes]] = []
    is_first = True
    for name, value in fields:
        if name.lower() != b"content-length":
            found.append((name, value))
        elif is_first:
            found.append((name, length))
            is_first = False
    return found

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
_TEXT = rb"[^\x00\n\x0b\x0c\r]*+"
_VALUE = rb"(?:[^\x00\t-\r ]+(?:[ \t]+[^\x00\t-\r ]+)*)?"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: (%b))?\r?\n" % _TEXT)
_FIELD_LINES = re.compile(rb"(?:%b:%b\r?\n)*+\r?\n" % (_TOKEN, _TEXT))
_PLAIN = rb"(?:%b: (?![ \t])%b(?<![ \t])\r\n)*+\r\n" % (_TOKEN, _TEXT)
_PLAIN_LINES = re.compile(_PLAIN)
_USUAL_HEAD = re.compile(rb"(HTTP/1\.([0-9]) ([2-9][0-9][0-9]) (%b)\r)\n%b" % (_TEXT, _PLAIN))
_MAX_USUAL = 6 * MAX_ANSWER_FIELDS
"""Bytes in which no usual head has too many fields: each of its lines has 6 bytes or more."""
_FIELD = re.compile(rb"\n(%b):[ \t]*(%b)" % (_TOKEN, _VALUE))
_FOLD = re.compile(rb"\r?\n[ \t]++")
_MAX_LENGTH_DIGITS = 18
_REMOVED_NAMES = (
    rb"connection|keep-alive|proxy-(?:authenticate|authorization|connection)|te|transfer-encoding|upgrade"
)
_NOTICED = re.compile(
    rb"\n(content-(?:length|location|type)|date|location|set-cookie|x-request-id|%b):[ \t]*([^\r\n]*+)"
    % _REMOVED_NAMES
)
"""The fields that are looked at when a response is read or passed on, in lower case."""
_REMOVED = re.compile(rb"\n(?i:x-request-id|%b):[^\n]*" % _REMOVED_NAMES)
"""The lines that no client gets."""
_KEPT = frozenset({b"content-length", b"content-type", b"date"})
_REWRITTEN = frozenset({b"content-location", b"location", b"set-cookie"})
_USUAL = frozenset({b"close", b"keep-alive"})


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


class AnswerHead:
    """The head of a response.

    ``minor``
        the minor version of HTTP/1.
    ``length``
        the Content-Length of a body that is framed by it, else 0.
    ``connection``
        the elements of Connection in lower case.
    ``has_length``, ``has_date``
        whether there is such a field.
    ``is_event_stream``
        whether the response is a stream of events.
    ``plain``
        the field lines for a client, if they need no other change than to remove lines.  Each begins with LF
        and ends with CR.  None if a field may be rewritten, or if a line has an unusual form.
    """

    __slots__ = (
        *("minor", "status", "reason", "framing", "length", "connection", "plain"),
        *("has_length", "has_date", "is_event_stream", "_lines", "_fields"),
    )

    def __init__(self, minor: int, status: int, reason: bytes, lines: bytes) -> None:
        self.minor = minor
        self.status = status
        self.reason = reason
        self.framing = Framing.UNTIL_CLOSE
        self.length = 0
        self.connection: list[bytes] = []
        self.has_length = self.has_date = self.is_event_stream = False
        self.plain: bytes | None = None
        self._lines = lines
        self._fields: Fields | None = None

    @property
    def fields(self) -> Fields:
        """The fields.  Their names keep their case, and values have no white space around them."""
        if self._fields is None:
            self._fields = tuple(_FIELD.findall(self._lines))
        return self._fields

    @property
    def closes(self) -> bool:
        """Whether the upstream closes its connection after the response."""
        return self.minor == 0 or b"close" in self.connection

    def with_body(self, fields: Fields) -> AnswerHead:
        """Return the head for a changed body, which these fields describe."""
        head = AnswerHead(self.minor, self.status, self.reason, b"")
        head.framing, head.connection, head._fields = self.framing, self.connection, fields
        head.has_length, head.has_date, head.is_event_stream = True, self.has_date, self.is_event_stream
        return head

    def __repr__(self) -> str:
        """Return a text for logs and tracebacks, without field values."""
        return f"<AnswerHead {self.status}, {len(self.fields)} fields, body {self.framing.value}>"


def take_usual_head(octets: bytes, bodiless: bool = False) -> tuple[AnswerHead, bytes] | None:
    """Return the head of a response and the bytes behind it, if it is usual and was received in one piece.

    Return None if a reader is needed: for interim responses, empty lines, a head that is not complete or
    large, and one with a mistake or with white space that is not usual.
    """
    usual = _USUAL_HEAD.match(octets, 0, _MAX_USUAL)
    if usual is None:
        return None
    line, minor, status, reason = usual.groups()
    size = usual.end()
    head = AnswerHead(int(minor), int(status), reason, octets[len(line) : size - 3])
    _frame(head, head._lines, True, bodiless)
    return head, octets[size:]


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
    def has_part(self) -> bool:
        """Whether a part of the next head has arrived."""
        return bool(self._buffer)

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
    lines = raw[start - 1 : -3]
    is_plain = _PLAIN_LINES.fullmatch(raw, start) is not None
    if not is_plain:
        if _FIELD_LINES.fullmatch(raw, start) is None:
            raw, start = b"\n" + _unfolded(raw[start:]), 1
            if _FIELD_LINES.fullmatch(raw, start) is None:
                raise UpstreamInvalid("the upstream's answer has a field line that is not NAME: VALUE")
        lines = raw[start - 1 :]
    if len(raw) > MAX_ANSWER_FIELDS and raw.count(b"\n", start) > MAX_ANSWER_FIELDS + 1:
        raise UpstreamInvalid(f"the upstream's answer has more than {MAX_ANSWER_FIELDS} fields")
    minor, status, reason = line.groups(b"")
    head = AnswerHead(int(minor), int(status), reason, lines)
    _frame(head, lines, is_plain, bodiless)
    return head


def _unfolded(lines: bytes) -> bytes:
    """Return field lines without folding (RFC 9112 5.2).  The first line cannot continue another one."""
    return lines if lines.startswith((b" ", b"\t")) else _FOLD.sub(b" ", lines)


def _frame(head: AnswerHead, lines: bytes, is_plain: bool, bodiless: bool) -> None:
    """Read the fields that frame the body, and those that are not passed on unchanged."""
    lowered = lines.lower()
    noticed = _NOTICED.findall(lowered)
    if not is_plain:
        noticed = [(name, value.rstrip(b" \t")) for name, value in noticed]
    named: dict[bytes, bytes] = dict(noticed)
    if len(named) < len(noticed):
        named |= _repeated(noticed)
    if b"connection" in named:
        head.connection = tokens([named[b"connection"]])
    head.has_date = b"date" in named
    if b"content-type" in named:
        head.is_event_stream = named[b"content-type"].startswith(b"text/event-stream")
    if b"content-length" in named:
        value = named[b"content-length"]
        if not _is_length(value):
            value, is_plain = _one_length(value), False
            head._fields = _with_length(head.fields, value)
        head.has_length, head.length, head.framing = True, int(value), Framing.LENGTH
    if b"transfer-encoding" in named:
        if head.has_length:
            raise UpstreamInvalid("the upstream's answer has Content-Length and Transfer-Encoding")
        if named[b"transfer-encoding"] != b"chunked":
            raise UpstreamInvalid("the Transfer-Encoding of the upstream's answer is not chunked")
        if head.minor != 1:
            raise UpstreamInvalid("the upstream's answer has a Transfer-Encoding outside HTTP/1.1")
        head.framing = Framing.CHUNKED
    status = head.status
    if bodiless or status < 200 or status == 204 or status == 304:
        head.framing, head.length = Framing.NONE, 0
    if is_plain and named.keys() <= _KEPT:
        head.plain = lines
    elif is_plain and _REWRITTEN.isdisjoint(named) and _USUAL.issuperset(head.connection):
        removed = named.keys() - _KEPT
        if len(removed) == 1 and len(named) == len(noticed):
            start = lowered.index(b"\n%b:" % removed.pop())
            end = lines.find(b"\n", start + 1)
            head.plain = lines[:start] + (lines[end:] if end > 0 else b"")
        else:
            head.plain = _REMOVED.sub(b"", lines)


def _repeated(noticed: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the values of fields that are there more than once, joined to one list (RFC 9110 5.3)."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in noticed:
        found.setdefault(name, []).append(value)
    return {name: b",".join(values) for name, values in found.items() if len(values) > 1}


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS


def _one_length(value: bytes) -> bytes:
    """Return the number of several equal Content-Lengths (RFC 9110 8.6).  Raise UpstreamInvalid."""
    numbers = {number.strip(b" \t") for number in value.split(b",")}
    if len(numbers) != 1 or not _is_length(number := numbers.pop()):
        raise UpstreamInvalid("the Content-Length of the upstream's answer is not one number")
    return number


def _with_length(fields: Fields, length: bytes) -> Fields:
    """Return the fields with one Content-Length, at the place of the first."""
    found: list[tuple[bytes, bytes]] = []
    is_first = True
    for name, value in fields:
        if name.lower() != b"content-length":
            found.append((name, value))
        elif is_first:
            found.append((name, length))
            is_first = False
    return tuple(found)

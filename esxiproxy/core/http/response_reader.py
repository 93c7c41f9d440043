"""A reader of upstream responses that feeds h11 with checked pieces."""

from __future__ import annotations

import re
from typing import Any

import h11

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.http.chunks import Chunks

MAX_ANSWER_HEAD = 64 * 1024
"""Maximum size in bytes of a response head, which may have many cookies."""
MAX_INTERIM = 32
"""Maximum number of interim responses (1xx) in one read."""
MAX_EMPTY = 8
"""Maximum number of empty lines in front of a status line."""

_PROTOCOL = b"HTTP/1."
_END = re.compile(rb"\n\r?\n")
_BODILESS = frozenset({204, 304})


class ResponseReader:
    """The reader of the response on one ``h11.Connection``, with :class:`Chunks` for a chunked body.

    ``started`` is whether a byte has arrived.  ``bodiless`` is whether the request is a HEAD.  ``max_head``
    is the maximum size in bytes of one head.
    """

    def __init__(self, connection: h11.Connection, bodiless: bool, max_head: int = MAX_ANSWER_HEAD) -> None:
        self._connection = connection
        self._bodiless = bodiless
        self._max_head = max_head
        self._head = b""
        self._searched = 0
        self._in_head = True
        self._chunks: Chunks | None = None
        self._taken = False
        self._interim = self._empty = 0
        self.started = False

    @property
    def more(self) -> bool:
        """Whether whole chunks wait for another turn of the reactor."""
        return self._chunks is not None and self._chunks.more

    @property
    def unread(self) -> bytes:
        """The bytes that follow the last head: after a 101, the first frames."""
        return self._connection.trailing_data[0] + self._head

    def feed(self, octets: bytes) -> None:
        """Add bytes, or nothing to continue in another turn.

        Raise UpstreamInvalid for what is not HTTP/1.x.
        """
        self._taken = False
        self._interim = 0
        if not octets:
            return
        self.started = True
        if self._in_head:
            self._head += octets
            self._check_start()
        elif self._chunks is not None:
            self._chunks.feed(octets)
        else:
            self._connection.receive_data(octets)

    def end(self) -> None:
        """Note that the upstream has closed the connection."""
        self._connection.receive_data(b"")

    def next_event(self) -> Any:
        """Return h11's next event.  Raise UpstreamInvalid or an error of h11."""
        if self._in_head and self._feed_head():
            event = self._connection.next_event()
            if isinstance(event, h11.Response):
                self._body(event)
            else:
                self._count_interim()
            return event
        event = self._connection.next_event()
        chunks = self._chunks
        if event is h11.NEED_DATA and chunks is not None and (chunks.is_invalid or not self._taken):
            self._taken = True
            if octets := chunks.take():
                self._connection.receive_data(octets)
                event = self._connection.next_event()
        return event

    def _feed_head(self) -> bool:
        """Pass the next head to h11.  Return False if it is not complete."""
        self._check_start()
        match = _END.search(self._head, max(0, self._searched - 2))
        self._searched = len(self._head)
        if (len(self._head) if match is None else match.end()) > self._max_head:
            raise UpstreamInvalid(f"the upstream's answer has a head over {self._max_head} bytes")
        if match is None:
            return False
        head, self._head = self._head[: match.end()], self._head[match.end() :]
        self._searched = 0
        self._connection.receive_data(head)
        return True

    def _check_start(self) -> None:
        while self._head.startswith(b"\r\n") and self._empty < MAX_EMPTY:
            self._empty += 1
            self._head = self._head[2:]
            self._searched = 0
        start = self._head[: len(_PROTOCOL)]
        if not _PROTOCOL.startswith(start) and (start != b"\r" or self._empty == MAX_EMPTY):
            raise UpstreamInvalid("the upstream's answer is no HTTP/1.1")

    def _body(self, event: h11.Response) -> None:
        self._in_head = False
        rest, self._head = self._head, b""
        chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        if chunked and not self._bodiless and event.status_code not in _BODILESS:
            self._chunks = Chunks(UpstreamInvalid, "the upstream's answer")
            self._chunks.feed(rest)
        elif rest:
            self._connection.receive_data(rest)

    def _count_interim(self) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise UpstreamInvalid(f"the upstream sent more than {MAX_INTERIM} interim answers at once")

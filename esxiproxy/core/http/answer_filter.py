"""The seam for changes of single answers: the bytes of a body go in, and the bytes for the client come out.

A filter is chosen for each request.  Requests without one, and answers that their filter does not take, are
forwarded as they are received.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from esxiproxy.core.http.answer_head import AnswerHead
from esxiproxy.core.http.body import Body
from esxiproxy.core.http.head import Fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal, Upstream

_ENCODINGS = frozenset({b"accept-encoding", b"range", b"if-range"})
_OF_THE_BODY = frozenset(
    {
        b"content-length",
        b"transfer-encoding",
        b"trailer",
        b"etag",
        b"digest",
        b"content-md5",
        b"content-digest",
        b"repr-digest",
        b"accept-ranges",
    }
)
"""Fields that describe the body of the upstream's answer, and not that of a changed one."""


class AnswerFilter(Protocol):
    """A filter of one answer.  Each method may raise a SessionError, which refuses the answer."""

    def takes(self, status: int, fields: Fields) -> bool:
        """Return whether the body of the answer with this head may be changed."""

    def feed(self, octets: bytes) -> bool:
        """Look at the next bytes of the body; return False once the answer is none that is changed.

        The filter limits the size of what it takes: all bytes are kept in memory until the end.
        """

    def change(self, body: bytes, upstream: Upstream) -> Awaitable[bytes]:
        """Return the body for the client.  ``upstream`` is the address that has sent the answer."""


class AnswerFilters(Protocol):
    """The filters of a listener."""

    def choose(self, request: Request, target: bytes, principal: Principal | None) -> AnswerFilter | None:
        """Return a new filter for the answer to this request, or None if the answer is not changed.

        ``target`` is sent to the upstream.  ``principal`` is None if the client was not identified.  Raise a
        SessionError to refuse the request.
        """


class HeldAnswer:
    """The head and the body of an answer that its filter has not passed on yet.

    ``payload`` reads the body for the filter.  ``framed`` reads the same bytes for the client, who gets them
    if the filter changes nothing.  ``is_complete`` is whether the filter has taken the whole answer.
    """

    def __init__(self, head: AnswerHead, payload: Body, framed: Body) -> None:
        self.head = head
        self.payload = payload
        self.framed = framed
        self.is_complete = False
        self._payload: list[bytes] = []
        self._framed: list[bytes] = []

    def take(self, octets: bytes) -> bytes:
        """Add the next bytes of the answer, and return those of the body."""
        taken = self.payload.take(octets)
        self._framed.append(self.framed.take(octets))
        self._payload.append(taken)
        return taken

    def end(self, clean: bool) -> None:
        """Note the end of the upstream's connection.  Raise UpstreamLost for an incomplete answer."""
        self.payload.end(clean)
        self._framed.append(self.framed.end(clean))

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self._payload)

    @property
    def unchanged(self) -> bytes:
        """The body so far, framed for the client."""
        return b"".join(self._framed)


def uncompressed_request(fields: Fields) -> Fields:
    """Return the fields of a request whose answer has to be whole and without a content coding."""
    kept = [(name, value) for name, value in fields if name.lower() not in _ENCODINGS]
    return (*kept, (b"Accept-Encoding", b"identity"))


def changed_fields(fields: Fields, size: int) -> Fields:
    """Return the fields of an answer whose body was changed and has this size."""
    kept = [(name, value) for name, value in fields if name.lower() not in _OF_THE_BODY]
    return (*kept, (b"Content-Length", b"%d" % size))


def is_compressed(fields: Fields) -> bool:
    """Return whether an answer has a content coding, or is a part of a whole."""
    return any(
        (name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"))
        or name.lower() == b"content-range"
        for name, value in fields
    )

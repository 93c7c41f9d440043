"""Writes the heads of the requests on one connection to an upstream."""

from __future__ import annotations

from esxiproxy.core.http.answer_filter import uncompressed_request
from esxiproxy.core.http.head import Fields
from esxiproxy.core.http.head_writer import request_head, request_line
from esxiproxy.core.http.message import forwarded_request
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal, Upstream

_MAX_REMEMBERED = 4096


class RequestWriter:
    """The writer of the heads of one client's requests to ``upstream``, on one connection.

    It remembers the field lines of the last request.  A client sends mostly the same fields with each request
    (``HeadReader`` notices that), and then only the request line and the session's id differ.
    """

    __slots__ = ("_after", "_before", "_facts", "_fields", "_principal", "_upstream")

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._fields: Fields | None = None
        self._principal: Principal | None = None
        self._facts: tuple[object, ...] = ()
        self._before = self._after = b""

    def head(self, request: Request, target: bytes, principal: Principal | None) -> bytes:
        """Return the head of a request.  Raise ValueError for a target or a field with an illegal byte."""
        head = request.head
        facts = (
            head.method == b"OPTIONS",  # its Max-Forwards is counted down
            head.version,
            request.client,
            request.secure,
            request.forwarded_for,
            request.public_host,
            request.other_host,
        )
        session = b"X-Request-ID: %b\r\n" % request.session.encode("ascii")
        if head.fields is self._fields and principal is self._principal and facts == self._facts:
            return request_line(head.method, target) + self._before + session + self._after
        written = request_head(head.method, target, forwarded_request(request, self._upstream, principal))
        if len(written) <= _MAX_REMEMBERED:
            self._fields, self._principal, self._facts = head.fields, principal, facts
            lines = written[written.index(b"\n") + 1 :]
            self._before, _, self._after = lines.partition(session)
        return written

    def uncompressed_head(self, request: Request, target: bytes, principal: Principal | None) -> bytes:
        """Return the head of a request whose answer has to be without a content coding, as ``head`` does."""
        fields = forwarded_request(request, self._upstream, principal)
        return request_head(request.head.method, target, uncompressed_request(fields))

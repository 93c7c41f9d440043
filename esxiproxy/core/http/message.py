"""Plain HTTP requests and responses, converted for the other side of the proxy (RFC 9110, RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from esxiproxy.core.errors import MalformedRequest
from esxiproxy.core.http.answer_head import AnswerHead
from esxiproxy.core.http.date import date_field
from esxiproxy.core.http.fields import (
    NEVER_DOWNSTREAM,
    NOT_IN_TRAILERS,
    host_field,
    page_origin_field,
    request_fields,
    rewriter_for,
    session_field,
    upgrade_fields,
)
from esxiproxy.core.http.head import Fields, RequestHead, tokens
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import REWRITTEN, ResponseRewriter
from esxiproxy.core.http.via import VIA_FIELDS
from esxiproxy.core.routing import Principal, Upstream

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

_WRITTEN_ANEW = frozenset({b"content-length", b"origin"})

LazyRewriter = Callable[[], ResponseRewriter]
"""A function that returns the rewriter of a response's fields, which few responses need."""


def has_body(head: RequestHead) -> bool:
    """Return whether this request has a body."""
    length = head.value(b"content-length")
    return b"transfer-encoding" in head.named or (length is not None and int(length) > 0)


def may_be_repeated(head: RequestHead) -> bool:
    """Return whether the request may be sent again after an unknown result (RFC 9110 9.2.2)."""
    return head.method in _IDEMPOTENT and not has_body(head)


def max_forwards(head: RequestHead) -> int | None:
    """Return the Max-Forwards of an OPTIONS request (RFC 9110 7.6.2), or None if it has none.

    Raise MalformedRequest for a value that is no number.
    """
    if head.method != b"OPTIONS" or not (values := head.values(b"max-forwards")):
        return None
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 9:
        raise MalformedRequest("the Max-Forwards is not one number")
    return int(values[0])


def options_answer(request: Request, methods: bytes) -> bytes:
    """Return the response to an OPTIONS that is not forwarded.  The connection is closed after it."""
    fields = [
        (b"Allow", methods),
        *session_field(request.session),
        *date_field(),
        (b"Content-Length", b"0"),
        (b"Connection", b"close"),
    ]
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"


def forwarded_request(request: Request, upstream: Upstream, principal: Principal | None) -> Fields:
    """Return the fields of the request for the upstream, its framing included."""
    head, named = request.head, request.head.named
    dropped, hops = _WRITTEN_ANEW, max_forwards(head)
    if hops is not None:
        dropped |= {b"max-forwards"}
    if head.version == (1, 0):
        dropped |= {b"expect"}  # RFC 9110 10.1.1: in HTTP/1.0 it says nothing
    fields = [(b"Host", host_field(request, upstream))]
    fields += request_fields(request, dropped, principal)
    if (origin := page_origin_field(request, upstream)) is not None:
        fields.append((b"Origin", origin))
    if hops is not None:
        fields.append((b"Max-Forwards", b"%d" % max(0, hops - 1)))
    if b"te" in named and b"trailers" in head.tokens(b"te"):
        fields += [(b"TE", b"trailers"), (b"Connection", b"TE")]
    if b"transfer-encoding" in named:
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif b"content-length" in named:
        fields.append((b"Content-Length", named[b"content-length"][0]))
    return tuple(fields)


def upstream_request(
    request: Request,
    upstream: Upstream,
    target: bytes | None,
    principal: Principal | None,
    prefix: bytes = b"",
) -> tuple[bytes, Fields, LazyRewriter]:
    """Return the target and the fields of the request for the upstream, and the rewriter of its response.

    ``target`` replaces the request's own if it is not None.  ``prefix`` stands in front of the upstream's
    paths in the client's URL.
    """
    fields = forwarded_request(request, upstream, principal)
    rewriter = partial(rewriter_for, request, upstream, prefix)
    return request.head.target if target is None else target, fields, rewriter


def forwarded_answer(head: AnswerHead, rewriter: LazyRewriter, session: str) -> list[tuple[bytes, bytes]]:
    """Return the fields of a response for the client, without those of its connection.

    Content-Length frames the body, so a Connection that names it does not remove it.  It is left out where it
    has no meaning (RFC 9110 8.6).
    """
    status = head.status
    has_length = status >= 200 and status != 204
    gone = NEVER_DOWNSTREAM.union(head.connection)
    fields: list[tuple[bytes, bytes]] = []
    has_date = False
    view: ResponseRewriter | None = None
    for field in head.fields:
        key = field[0].lower()
        if key == b"content-length":
            if has_length:
                fields.append(field)
        elif key not in gone:
            if key in REWRITTEN:
                view = view or rewriter()
                field = field[0], view.value(key, field[1])
            has_date = has_date or key == b"date"
            fields.append(field)
    fields.append(VIA_FIELDS[min(head.minor, 1)])
    fields += session_field(session)
    if status >= 200:
        if status == 426 and (upgrades := upgrade_fields(head.fields, status)):
            fields += [*upgrades, (b"Connection", b"Upgrade")]
        if not has_date:
            fields += date_field()
    return fields


def plain_answer(head: AnswerHead, session: str, framing: bytes) -> bytes | None:
    """Return the head of a response whose lines need no change, or None for every other response.

    ``framing`` are the lines of its connection, each with its line end.  The head is the one with the fields
    of ``forwarded_answer``, in fewer steps.  All its parts are checked already.
    """
    status = head.status
    if head.plain is None or status < 200 or status == 204 or status == 426:
        return None
    date = b"" if head.has_date else b"Date: %b\r\n" % date_field()[0][1]
    return b"HTTP/1.1 %d %b\r%b\nVia: %b\r\nX-Request-ID: %b\r\n%b%b\r\n" % (
        status,
        head.reason,
        head.plain,
        VIA_FIELDS[1 if head.minor else 0][1],
        session.encode("ascii"),
        date,
        framing,
    )


def trailer_fields(fields: Fields, dropped: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    """Return the trailer fields that are passed on, without those named in ``dropped``."""
    named = tokens([value for name, value in fields if name.lower() == b"connection"])
    gone = NOT_IN_TRAILERS.union(named, dropped)
    return [(name, value) for name, value in fields if name.lower() not in gone]

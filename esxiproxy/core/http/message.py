"""Plain HTTP requests and responses, converted for the other side of the proxy (RFC 9110, RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
_NOTICED = REWRITTEN | {b"content-type", b"date"}

LazyRewriter = Callable[[], ResponseRewriter]
"""A function that returns the rewriter of a response's fields, which few responses need."""


def has_body(head: RequestHead) -> bool:
    """Return whether this request has a body."""
    lengths = head.values(b"content-length")
    return bool(head.values(b"transfer-encoding")) or (bool(lengths) and int(lengths[0]) > 0)


def may_be_repeated(head: RequestHead) -> bool:
    """Return whether the request may be sent again after an unknown result (RFC 9110 9.2.2)."""
    return head.method in _IDEMPOTENT and not has_body(head)


def max_forwards(head: RequestHead) -> int | None:
    """Return the Max-Forwards of an OPTIONS request (RFC 9110 7.6.2), or None if it has none.

    Raise MalformedRequest for a value that is no number.
    """
    values = head.values(b"max-forwards")
    if head.method != b"OPTIONS" or not values:
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
    head = request.head
    dropped = {b"content-length", b"origin"}
    hops = max_forwards(head)
    if hops is not None:
        dropped.add(b"max-forwards")
    if head.version == (1, 0):
        dropped.add(b"expect")  # RFC 9110 10.1.1: in HTTP/1.0 it says nothing
    fields = [
        (b"Host", host_field(request, upstream)),
        *request_fields(request, frozenset(dropped), principal),
    ]
    if (origin := page_origin_field(request, upstream)) is not None:
        fields.append((b"Origin", origin))
    if hops is not None:
        fields.append((b"Max-Forwards", b"%d" % max(0, hops - 1)))
    if b"trailers" in head.tokens(b"te"):
        fields += [(b"TE", b"trailers"), (b"Connection", b"TE")]
    if head.values(b"transfer-encoding"):
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif (length := head.value(b"content-length")) is not None:
        fields.append((b"Content-Length", length))
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


class ForwardedAnswer(NamedTuple):
    """The fields of a response for the client.

    ``has_length`` is whether there is a Content-Length among them, and ``is_event_stream`` whether the
    response is a stream of events.
    """

    fields: list[tuple[bytes, bytes]]
    has_length: bool
    is_event_stream: bool


def forwarded_answer(head: AnswerHead, rewriter: LazyRewriter, session: str) -> ForwardedAnswer:
    """Return the fields of a response for the client, without those of its connection.

    Content-Length frames the body, so a Connection that names it does not remove it.  It is left out where it
    has no meaning (RFC 9110 8.6).
    """
    status = head.status
    gone = NEVER_DOWNSTREAM if not head.connection else NEVER_DOWNSTREAM.union(head.connection)
    fields: list[tuple[bytes, bytes]] = []
    has_length = has_date = is_event_stream = False
    view: ResponseRewriter | None = None
    for field in head.fields:
        key = field[0].lower()
        if key == b"content-length":
            if status >= 200 and status != 204:
                has_length = True
                fields.append(field)
        elif key not in gone:
            if key in _NOTICED:
                if key in REWRITTEN:
                    view = view or rewriter()
                    field = field[0], view.value(key, field[1])
                elif key == b"date":
                    has_date = True
                else:
                    is_event_stream |= field[1].lower().startswith(b"text/event-stream")
            fields.append(field)
    fields.append(VIA_FIELDS[min(head.minor, 1)])
    fields += session_field(session)
    if status >= 200:
        if status == 426 and (upgrades := upgrade_fields(head.fields, status)):
            fields += [*upgrades, (b"Connection", b"Upgrade")]
        if not has_date:
            fields += date_field()
    return ForwardedAnswer(fields, has_length, is_event_stream)


def trailer_fields(fields: Fields, dropped: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    """Return the trailer fields that are passed on, without those named in ``dropped``."""
    named = tokens([value for name, value in fields if name.lower() == b"connection"])
    gone = NOT_IN_TRAILERS.union(named, dropped)
    return [(name, value) for name, value in fields if name.lower() not in gone]

"""Plain HTTP requests and responses, converted for the other side of the proxy (RFC 9110, RFC 9112)."""

from __future__ import annotations

from esxiproxy.core.errors import MalformedRequest, UpstreamInvalid
from esxiproxy.core.http.date import date_field
from esxiproxy.core.http.fields import (
    NOT_IN_TRAILERS,
    host_field,
    page_origin_field,
    request_fields,
    response_fields,
    rewriter_for,
    session_field,
    upgrade_fields,
)
from esxiproxy.core.http.head import Fields, RequestHead, tokens
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import ResponseRewriter
from esxiproxy.core.routing import Principal, Upstream

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


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
) -> tuple[bytes, Fields, ResponseRewriter]:
    """Return the target and the fields of the request for the upstream, and the rewriter of its response.

    ``target`` replaces the request's own if it is not None.  ``prefix`` stands in front of the upstream's
    paths in the client's URL.
    """
    fields = forwarded_request(request, upstream, principal)
    return request.head.target if target is None else target, fields, rewriter_for(request, upstream, prefix)


def check_answer(version: bytes, fields: Fields) -> None:
    """Raise UpstreamInvalid for a response whose end is ambiguous (RFC 9112 6)."""
    framing = {name.lower() for name, _ in fields} & _FRAMING
    if len(framing) == 2:
        raise UpstreamInvalid("the upstream's answer has Content-Length and Transfer-Encoding")
    if framing == {b"transfer-encoding"} and version != b"1.1":
        raise UpstreamInvalid("the upstream's answer has a Transfer-Encoding in HTTP/1.0")


def forwarded_answer(
    fields: Fields, status: int, version: bytes, view: ResponseRewriter, session: str
) -> list[tuple[bytes, bytes]]:
    """Return the fields of the response for the client.  h11 adds the framing of the body."""
    dropped = frozenset({b"content-length"} if status < 200 or status == 204 else ())
    minor = 0 if version == b"1.0" else 1
    kept = view.response_fields(tuple(response_fields(fields, dropped, session, (1, minor))))
    if status < 200:
        return kept
    if upgrades := upgrade_fields(fields, status):
        kept += [*upgrades, (b"Connection", b"Upgrade")]
    return kept + date_field(tuple(kept))


def trailer_fields(fields: Fields, dropped: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    """Return the trailer fields that are passed on, without those named in ``dropped``."""
    named = tokens([value for name, value in fields if name.lower() == b"connection"])
    gone = NOT_IN_TRAILERS.union(named, dropped)
    return [(name, value) for name, value in fields if name.lower() not in gone]

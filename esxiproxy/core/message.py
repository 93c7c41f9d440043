"""A plain HTTP request and its answer, as the other side of the proxy gets them (RFC 9110, RFC 9112)."""

from __future__ import annotations

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.fields import (
    NOT_IN_TRAILERS,
    host_field,
    page_origin_field,
    request_fields,
    response_fields,
    view_of,
)
from esxiproxy.core.head import Fields, RequestHead, tokens
from esxiproxy.core.request import Request
from esxiproxy.core.rewriting import View
from esxiproxy.core.routing import Principal, Route

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def has_body(head: RequestHead) -> bool:
    """Whether bytes of a body belong to this request."""
    lengths = head.values(b"content-length")
    return bool(head.values(b"transfer-encoding")) or (bool(lengths) and int(lengths[0]) > 0)


def may_be_repeated(head: RequestHead) -> bool:
    """Whether the request may be sent a second time when nobody knows what became of the first (9.2.2)."""
    return head.method in _IDEMPOTENT and not has_body(head)


def forwarded_request(request: Request, route: Route, principal: Principal | None) -> Fields:
    """The fields of the request that goes upstream, its framing among them."""
    head, upstream = request.head, route.upstream
    dropped = {b"content-length", b"origin"} | (principal.consumed if principal else frozenset())
    if head.version == (1, 0):
        dropped.add(b"expect")  # RFC 9110 10.1.1: in HTTP/1.0 it says nothing
    fields = [(b"Host", host_field(request, upstream)), *request_fields(request, frozenset(dropped))]
    if (origin := page_origin_field(request, upstream)) is not None:
        fields.append((b"Origin", origin))
    if b"trailers" in head.tokens(b"te"):
        fields += [(b"TE", b"trailers"), (b"Connection", b"TE")]
    if head.values(b"transfer-encoding"):
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif (length := head.value(b"content-length")) is not None:
        fields.append((b"Content-Length", length))
    return tuple(fields)


def upstream_request(
    request: Request, route: Route, principal: Principal | None
) -> tuple[bytes, Fields, View]:
    """The target and the fields of the request that goes upstream, and how its answer is seen."""
    upstream, target = route.upstream, route.target
    fields = forwarded_request(request, route, principal)
    return request.head.target if target is None else target, fields, view_of(request, upstream)


def check_answer(version: bytes, fields: Fields) -> None:
    """Raises UpstreamInvalid for an answer whose end two readers would find in two places (RFC 9112 6)."""
    framing = {name.lower() for name, _ in fields} & _FRAMING
    if len(framing) == 2:
        raise UpstreamInvalid("the upstream's answer has Content-Length and Transfer-Encoding")
    if framing == {b"transfer-encoding"} and version != b"1.1":
        raise UpstreamInvalid("the upstream's answer has a Transfer-Encoding in HTTP/1.0")


def forwarded_answer(
    fields: Fields, status: int, version: bytes, view: View, session: str
) -> list[tuple[bytes, bytes]]:
    """The fields of the answer that goes to the client; how its body is framed is h11's part."""
    dropped = frozenset({b"content-length"} if status < 200 or status == 204 else ())
    minor = 0 if version == b"1.0" else 1
    return view.response_fields(tuple(response_fields(fields, dropped, session, (1, minor))))


def trailer_fields(fields: Fields) -> list[tuple[bytes, bytes]]:
    """The fields behind a chunked body that go on."""
    named = tokens([value for name, value in fields if name.lower() == b"connection"])
    gone = NOT_IN_TRAILERS.union(named)
    return [(name, value) for name, value in fields if name.lower() not in gone]

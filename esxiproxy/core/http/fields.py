"""The fields that the proxy passes on, and the fields that it adds (RFC 9110 section 7.6)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from esxiproxy.core.http.head import Fields, tokens
from esxiproxy.core.http.origins import is_own_origin
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import ResponseRewriter
from esxiproxy.core.http.via import VIA_FIELDS, via
from esxiproxy.core.identity_cache import IdentityCache
from esxiproxy.core.routing import Principal, Upstream

SESSION = b"x-request-id"
"""The field with the session's id, sent to both sides so that their logs can be joined with the proxy's."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Hop-by-hop fields of RFC 9110 7.6.1 and RFC 2616 13.5.1, without Trailer, since trailers are passed on."""

FORWARDED = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-real-ip",
    }
)
"""Fields with the origin of a request.  The proxy writes its own and drops the client's."""

NOT_IN_TRAILERS = (
    HOP_BY_HOP
    | FORWARDED
    | {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"http2-settings",
        b"location",
        b"max-forwards",
        b"range",
        b"set-cookie",
        b"trailer",
        b"via",
        b"www-authenticate",
        SESSION,
    }
)
"""Fields that RFC 9110 6.5.1 forbids in trailers: framing, routing, authentication and similar ones."""

NEVER_DOWNSTREAM = HOP_BY_HOP | {SESSION}
"""Fields of the upstream that no client gets."""
_NOTHING: frozenset[bytes] = frozenset()
_NEVER_UPSTREAM = HOP_BY_HOP | FORWARDED | {b"host", b"http2-settings", SESSION}


@lru_cache(maxsize=256)
def _union(*names: frozenset[bytes]) -> frozenset[bytes]:
    """Return the union of sets of names, of which there are few: those of the code and of authenticators."""
    return frozenset[bytes]().union(*names)


def end_to_end(fields: Fields, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the end-to-end fields, in their order.

    Fields in ``dropped`` (lower case) and fields that Connection names are left out.
    """
    return _kept(fields, dropped, [value for name, value in fields if name.lower() == b"connection"])


def _kept(
    fields: Fields, dropped: frozenset[bytes], connection: Sequence[bytes]
) -> list[tuple[bytes, bytes]]:
    gone = dropped.union(tokens(connection)) if connection else dropped
    return [field for field in fields if field[0].lower() not in gone]


def request_fields(
    request: Request, dropped: frozenset[bytes], principal: Principal | None = None
) -> list[tuple[bytes, bytes]]:
    """Return the client's fields for the upstream, with the forwarded fields, without Host.

    The fields and cookies with credentials of the principal are left out.
    """
    head = request.head
    consumed = principal.consumed if principal is not None else _NOTHING
    gone = _union(_NEVER_UPSTREAM, dropped, consumed)
    fields = _kept(head.fields, gone, head.named.get(b"connection", ()))
    if principal is not None and principal.consumed_cookies:
        fields = without_cookies(fields, principal.consumed_cookies)
    fields += _forwarded(request.forwarded_for or (request.client.host,), request.secure)
    host = request.public_host or head.value(b"host")
    if host is not None:
        fields.append((b"X-Forwarded-Host", host))
    fields.append(VIA_FIELDS[head.version[1]])
    fields.append((b"X-Request-ID", request.session.encode("ascii")))
    return fields


@lru_cache(maxsize=256)
def _forwarded(chain: tuple[str, ...], secure: bool) -> Fields:
    """Return the fields with the addresses of the client and of the proxies, and with the client's scheme."""
    nodes = ("unknown" if node == "unix" else node for node in chain)
    return (
        (b"X-Forwarded-For", ", ".join(nodes).encode("ascii", "replace")),
        (b"X-Forwarded-Proto", b"https" if secure else b"http"),
    )


def without_cookies(fields: list[tuple[bytes, bytes]], names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the fields without the cookies of these names; a Cookie field without any other is left out."""
    kept = []
    for name, value in fields:
        if name.lower() == b"cookie":
            pairs = [pair for pair in value.split(b";") if pair.partition(b"=")[0].strip() not in names]
            if not any(pair.strip() for pair in pairs):
                continue
            value = b";".join(pairs).strip()
        kept.append((name, value))
    return kept


def response_fields(
    fields: Fields, dropped: frozenset[bytes], session: str, version: tuple[int, int] = (1, 1)
) -> list[tuple[bytes, bytes]]:
    """Return the upstream's response fields for the client, with Via and the session's id.

    ``version`` is the HTTP version of the response.
    """
    kept = end_to_end(fields, _union(NEVER_DOWNSTREAM, dropped))
    return [*kept, (b"Via", via(version)), *session_field(session)]


def upgrade_fields(fields: Fields, status: int) -> list[tuple[bytes, bytes]]:
    """Return the Upgrade fields of an upstream's 426 (RFC 9110 15.5.22), which Connection has to name.

    In any other response Upgrade is a hop-by-hop field, and the list is empty.
    """
    return [(name, value) for name, value in fields if status == 426 and name.lower() == b"upgrade"]


def session_field(session: str) -> list[tuple[bytes, bytes]]:
    """Return the field with the session's id."""
    return [(b"X-Request-ID", session.encode("ascii"))]


def host_field(request: Request, upstream: Upstream) -> bytes:
    """Return the Host field for an upstream, by the rule of its section."""
    match upstream.host_field:
        case "upstream":
            return _authority(upstream)
        case "client":
            return request.head.value(b"host") or upstream.authority.encode("ascii", "replace")
        case value:
            return value.encode("latin-1")


def _encoded_authority(upstream: Upstream) -> bytes:
    authority = upstream.authority
    return authority.encode("ascii" if authority.isascii() else "idna")


_authority = IdentityCache(_encoded_authority)


def rewriter_for(request: Request, upstream: Upstream, prefix: bytes = b"") -> ResponseRewriter:
    """Return the rewriter of the upstream's response fields for the client of this request.

    ``prefix`` stands in front of the upstream's paths in the client's URL.
    """
    host = request.public_host or request.head.value(b"host")
    return ResponseRewriter.of(upstream, host_field(request, upstream), request.secure, host, prefix)


def origin_field(request: Request, upstream: Upstream) -> bytes | None:
    """Return the Origin field of an opening handshake for the upstream, or None for no such field.

    A script sends no Origin, and none is added.  The proxy's own origin is replaced by the upstream's.  A
    foreign origin is not changed, since the upstream uses it to reject cross-site requests.  A configured
    value replaces every Origin.
    """
    own = request.head.value(b"origin")
    match upstream.origin_field:
        case "none":
            return None
        case "client":
            return own
        case "upstream":
            return upstream.origin.encode("ascii") if is_own_origin(own, request) else own
        case value:
            return value.encode("latin-1")


def page_origin_field(request: Request, upstream: Upstream) -> bytes | None:
    """Return the Origin field of a plain HTTP request for the upstream, or None for no such field.

    A configured value replaces the proxy's own origin only.
    """
    own = request.head.value(b"origin")
    if own is None and upstream.origin_field == "upstream":
        return None
    if upstream.origin_field == "none" or own is None or is_own_origin(own, request):
        return origin_field(request, upstream)
    return own

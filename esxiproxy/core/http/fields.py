"""Which fields pass the proxy, and which it adds (RFC 9110 section 7.6)."""

from __future__ import annotations

from esxiproxy.core.http.head import Fields, tokens
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import ResponseRewriter, with_port
from esxiproxy.core.http.via import via
from esxiproxy.core.routing import Upstream

SESSION = b"x-request-id"
"""The session's id, told upstream and downstream, so that the logs of both ends can be joined with ours."""

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
"""RFC 9110 7.6.1, and what RFC 2616 13.5.1 called so before it; Trailer is not: trailers are passed on."""

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
"""What says where a request came from: written by us, never taken from a stranger."""

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
"""Framing, routing, authentication and the like: RFC 9110 6.5.1 forbids them behind a body."""

_NEVER_UPSTREAM = HOP_BY_HOP | FORWARDED | {b"host", b"http2-settings", SESSION}


def end_to_end(fields: Fields, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The fields that go on, repeated ones repeated: without ``dropped`` (lower case) and Connection's."""
    known = [(name.lower(), name, value) for name, value in fields]
    gone = dropped.union(tokens([value for key, _, value in known if key == b"connection"]))
    return [(name, value) for key, name, value in known if key not in gone]


def request_fields(request: Request, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The client's fields as an upstream gets them, with where they came from; Host is the caller's part."""
    fields = end_to_end(request.head.fields, _NEVER_UPSTREAM | dropped)
    chain = request.forwarded_for or (request.client.host,)
    nodes = ("unknown" if node == "unix" else node for node in chain)
    fields.append((b"X-Forwarded-For", ", ".join(nodes).encode("ascii", "replace")))
    fields.append((b"X-Forwarded-Proto", b"https" if request.secure else b"http"))
    host = request.public_host or request.head.value(b"host")
    if host is not None:
        fields.append((b"X-Forwarded-Host", host))
    fields.append((b"Via", via(request.head.version)))
    fields += session_field(request.session)
    return fields


def response_fields(
    fields: Fields, dropped: frozenset[bytes], session: str, version: tuple[int, int] = (1, 1)
) -> list[tuple[bytes, bytes]]:
    """An upstream's response fields as the client gets them, each Set-Cookie its own."""
    kept = end_to_end(fields, HOP_BY_HOP | {SESSION} | dropped)
    return [*kept, (b"Via", via(version)), *session_field(session)]


def upgrade_fields(fields: Fields, status: int) -> list[tuple[bytes, bytes]]:
    """Return the Upgrade fields of an upstream's 426 (RFC 9110 15.5.22); Connection has to name them.

    In every other answer they are hop by hop.
    """
    return [(name, value) for name, value in fields if status == 426 and name.lower() == b"upgrade"]


def session_field(session: str) -> list[tuple[bytes, bytes]]:
    """The field that names the session: always ours, whatever the other side calls it."""
    return [(b"X-Request-ID", session.encode("ascii"))]


def host_field(request: Request, upstream: Upstream) -> bytes:
    """The Host field that an upstream gets, by its rule."""
    match upstream.host_field:
        case "upstream":
            return upstream.authority.encode("idna" if not upstream.authority.isascii() else "ascii")
        case "client":
            return request.head.value(b"host") or upstream.authority.encode("ascii", "replace")
        case value:
            return value.encode("latin-1")


def view_of(request: Request, upstream: Upstream) -> ResponseRewriter:
    """Return how the client of this request sees what the upstream says of itself."""
    host = request.public_host or request.head.value(b"host")
    return ResponseRewriter.of(upstream, host_field(request, upstream), request.secure, host)


def origin_field(request: Request, upstream: Upstream) -> bytes | None:
    """Return the Origin of an opening handshake; none is made up for a script, which sends none.

    Only our own origin becomes the upstream's.  A foreign origin passes as it is, since the upstream tells by
    it whose requests it may believe.  A configured value replaces every Origin, as its key says.
    """
    own = request.head.value(b"origin")
    match upstream.origin_field:
        case "none":
            return None
        case "client":
            return own
        case "upstream":
            return upstream.origin.encode("ascii") if _is_ours(own, request) else own
        case value:
            return value.encode("latin-1")


def page_origin_field(request: Request, upstream: Upstream) -> bytes | None:
    """Return the Origin of a plain HTTP request: a configured value replaces only our own origin there."""
    own = request.head.value(b"origin")
    if upstream.origin_field == "none" or own is None or _is_ours(own, request):
        return origin_field(request, upstream)
    return own


def _is_ours(origin: bytes | None, request: Request) -> bool:
    """Whether this Origin is ours: scheme, host and port as the client has them in its own URL."""
    hosts = (request.public_host or request.head.value(b"host"), request.other_host)
    scheme, separator, authority = (origin or b"").lower().partition(b"://")
    if not separator or scheme != (b"https" if request.secure else b"http"):
        return False
    return with_port(authority, scheme) in [with_port(host.lower(), scheme) for host in hosts if host]

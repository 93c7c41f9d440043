"""Which fields pass the proxy, and which it adds (RFC 9110 section 7.6)."""

from __future__ import annotations

from esxiproxy.core.head import Fields, tokens
from esxiproxy.core.request import Request

PSEUDONYM = b"esxiproxy"
"""How the proxy calls itself in Via and Proxy-Status."""
VIA = b"1.1 " + PSEUDONYM

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110 7.6.1, and what RFC 2616 13.5.1 called so before it."""

FORWARDED = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
"""What says where a request came from: written by us, never taken from a stranger."""

_NEVER_UPSTREAM = HOP_BY_HOP | FORWARDED | {b"host", b"http2-settings"}


def end_to_end(fields: Fields, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The fields that go on, repeated ones repeated: without ``dropped`` (lower case) and Connection's."""
    named = tokens([value for name, value in fields if name.lower() == b"connection"])
    gone = dropped.union(named)
    return [(name, value) for name, value in fields if name.lower() not in gone]


def request_fields(request: Request, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The client's fields as an upstream gets them, with where they came from; Host is the caller's part."""
    fields = end_to_end(request.head.fields, _NEVER_UPSTREAM | dropped)
    fields.append((b"X-Forwarded-For", request.client.host.encode("ascii", "replace")))
    fields.append((b"X-Forwarded-Proto", b"https" if request.secure else b"http"))
    if (host := request.head.value(b"host")) is not None:
        fields.append((b"X-Forwarded-Host", host))
    fields.append((b"Via", VIA))
    return fields


def response_fields(fields: Fields, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """An upstream's response fields as the client gets them, each Set-Cookie its own."""
    return [*end_to_end(fields, HOP_BY_HOP | dropped), (b"Via", VIA)]

"""A rewriter of an upstream's Location and Set-Cookie fields for the client."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esxiproxy.core.http.head import Fields
from esxiproxy.core.routing import Upstream

_URI = re.compile(rb"(?i)((?:http|ws)s?:)?//([^/?#]*)(.*)", re.DOTALL)
# What the URL parser of a browser removes before it reads a URL (https://url.spec.whatwg.org/#concept-basic-url-parser).
_STRIPPED = bytes(range(0x21))
# The beginning of a scheme or, for a browser, of an authority: no path of the proxy.
_ELSEWHERE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]{2}")
_LOCATIONS = frozenset({b"location", b"content-location"})
REWRITTEN = _LOCATIONS | {b"set-cookie"}
"""The fields, in lower case, that a ResponseRewriter may change."""
_PORTS = {b"http": b"80", b"https": b"443"}
_WEBSOCKET = {b"ws": b"http", b"wss": b"https"}
"""The HTTP scheme with the port and TLS of each WebSocket scheme (RFC 6455 3)."""
_SOCKETS = {scheme: socket for socket, scheme in _WEBSOCKET.items()}
# Without Secure a browser drops a cookie that has one of these.
_NEEDS_SECURE = frozenset({b"samesite=none", b"partitioned"})


@dataclass(frozen=True, slots=True)
class ResponseRewriter:
    """The two sides of one exchange: the names of the upstream, and the proxy's URL as the client sees it.

    ``names`` are the upstream's authorities in lower case with their port.  ``scheme`` and ``host`` are those
    of the client's URL.  ``prefix`` is the path in front of the upstream's paths in that URL, without a final
    slash.
    """

    upstream_scheme: bytes
    upstream_host: bytes
    names: frozenset[bytes]
    scheme: bytes
    host: bytes
    prefix: bytes = b""

    @classmethod
    def of(
        cls, upstream: Upstream, sent_host: bytes, secure: bool, host: bytes | None, prefix: bytes = b""
    ) -> ResponseRewriter:
        """Return the rewriter for an upstream that got the Host field ``sent_host``.

        ``secure``, ``host`` and ``prefix`` are the scheme, the host and the beginning of the path of the
        client's URL.
        """
        scheme = b"https" if upstream.secure else b"http"
        own = upstream.authority.lower().encode("idna" if not upstream.authority.isascii() else "ascii")
        names = frozenset(with_port(name, scheme) for name in (own, sent_host.lower()))
        return cls(scheme, _hostname(own), names, b"https" if secure else b"http", host or b"", prefix)

    def response_fields(self, fields: Fields) -> list[tuple[bytes, bytes]]:
        """Return these fields as the client gets them, with each Set-Cookie in a field of its own."""
        return [(name, self.value(name.lower(), value)) for name, value in fields]

    def value(self, name: bytes, value: bytes) -> bytes:
        """Return the value of the field with this name (lower case) as the client gets it."""
        if name in _LOCATIONS:
            return self.location(value)
        return self.cookie(value) if name == b"set-cookie" else value

    def location(self, value: bytes) -> bytes:
        """Return a URI with the client's authority in place of the upstream's.

        Other URIs are not changed.
        """
        match = _URI.fullmatch(value)
        if match is None:
            return self.prefix + value if self.prefix and value.startswith(b"/") else value
        if not self.host:
            return value
        scheme, authority, rest = match.groups()
        named = _named(scheme, self.upstream_scheme)
        if named != self.upstream_scheme or with_port(authority.lower(), named) not in self.names:
            return value
        ours = self.scheme if scheme is None or scheme[:2].lower() != b"ws" else _SOCKETS[self.scheme]
        if self.prefix:
            rest = self.prefix + (rest if rest.startswith(b"/") else b"/" + rest)
        return (b"" if scheme is None else ours + b":") + b"//" + self.host + rest

    def leads_past(self, value: bytes) -> bool:
        """Return whether a client that follows this Location, after rewriting, leaves the proxy's address."""
        value = self.location(value).translate(None, _STRIPPED)  # as it is sent, and as a client reads it
        match = _URI.fullmatch(value)
        if match is None:
            return _ELSEWHERE.match(value) is not None
        scheme, authority, _ = match.groups()
        named = _named(scheme, self.scheme)
        ours = bool(self.host) and with_port(self.host.lower(), self.scheme)
        return named != self.scheme or with_port(authority.lower(), named) != ours

    def wants_tls(self, value: bytes) -> bool:
        """Return whether this Location is the upstream by TLS, while the upstream is used without TLS."""
        match = _URI.fullmatch(value)
        if match is None or self.upstream_scheme == b"https":
            return False
        hosts = {_hostname(name) for name in self.names}
        return (
            _named(match.group(1), self.upstream_scheme) == b"https"
            and _hostname(match.group(2).lower()) in hosts
        )

    def cookie(self, value: bytes) -> bytes:
        """Return a Set-Cookie (RFC 6265 4.1) that the client's browser accepts from the proxy."""
        pair, *attributes = value.split(b";")
        if self.prefix:
            attributes = [self._with_prefix(attribute) for attribute in attributes]
        kept = [attribute for attribute in attributes if not self._cookie_refused(attribute.strip().lower())]
        if self.scheme == b"http" and any(attribute.strip().lower() == b"secure" for attribute in attributes):
            insecure = _NEEDS_SECURE | {b"secure"}
            kept = [attribute for attribute in kept if _without_spaces(attribute) not in insecure]
        return b";".join([pair, *kept])

    def _with_prefix(self, attribute: bytes) -> bytes:
        """Return a Path attribute for the paths under the prefix, and any other attribute unchanged."""
        name, equals, path = attribute.partition(b"=")
        path = path.strip()
        if name.strip().lower() != b"path" or not path.startswith(b"/"):
            return attribute
        return name + equals + self.prefix + path

    def _cookie_refused(self, attribute: bytes) -> bool:
        """Return whether an attribute is a Domain that a browser would refuse from the proxy."""
        name, equals, domain = attribute.partition(b"=")
        if name.strip() != b"domain" or not equals:
            return False
        domain = domain.strip().strip(b'"').lstrip(b".")
        if domain == self.upstream_host:
            return True
        host = _hostname(self.host.lower())
        return _is_within(self.upstream_host, domain) and not _is_within(host, domain)


def _named(scheme: bytes | None, default: bytes) -> bytes:
    """Return the HTTP scheme of a URI that has this scheme (``http:``, ``wss:``, None)."""
    name = default if scheme is None else scheme[:-1].lower()
    return _WEBSOCKET.get(name, name)


def _without_spaces(attribute: bytes) -> bytes:
    return b"".join(attribute.lower().split())


def _is_within(host: bytes, domain: bytes) -> bool:
    return host == domain or host.endswith(b"." + domain)


def _hostname(authority: bytes) -> bytes:
    return re.sub(rb":\d*\Z", b"", authority) if not authority.endswith(b"]") else authority


def with_port(authority: bytes, scheme: bytes) -> bytes:
    """Return ``host:port`` for an authority, with the default port of the scheme if it has none."""
    host = _hostname(authority)
    port = authority[len(host) + 1 :] or _PORTS[scheme]
    return host + b":" + port


def needs_rewriting(fields: Fields) -> bool:
    """Return whether a ResponseRewriter may change one of these fields."""
    return not REWRITTEN.isdisjoint([name.lower() for name, _ in fields])

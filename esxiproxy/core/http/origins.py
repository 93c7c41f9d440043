"""The origins (RFC 6454) whose pages may open a console: the check of the Origin field of an upgrade."""

from __future__ import annotations

from dataclasses import dataclass

from esxiproxy.core.errors import OriginRefused
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import with_port


@dataclass(frozen=True, slots=True)
class AllowedOrigins:
    """The origins that a listener accepts in an opening handshake.

    ``same`` accepts the proxy's own origin.  ``listed`` has further origins, in lower case and with their
    port (``https://portal.example.com:443``).
    """

    same: bool = True
    listed: frozenset[bytes] = frozenset()

    def check(self, request: Request) -> None:
        """Raise OriginRefused if a page of another origin sends this opening handshake.

        A request without Origin passes: every browser adds the field to an opening handshake (RFC 6455 4.1).
        """
        values = request.head.values(b"origin")
        if not values or (len(values) == 1 and self._accepts(values[0], request)):
            return
        raise OriginRefused("the page that opens this console is not of an allowed origin")

    def _accepts(self, origin: bytes, request: Request) -> bool:
        return origin_with_port(origin) in self.listed or (self.same and is_own_origin(origin, request))


@dataclass(frozen=True, slots=True)
class AnyOrigin:
    """The rule of a listener that accepts pages of every origin."""

    def check(self, request: Request) -> None:
        """Accept every request."""


Origins = AllowedOrigins | AnyOrigin


def is_own_origin(origin: bytes | None, request: Request) -> bool:
    """Return whether an Origin has the scheme, host and port of the proxy's URL as the client sees it."""
    hosts = (request.public_host or request.head.value(b"host"), request.other_host)
    scheme, separator, authority = (origin or b"").lower().partition(b"://")
    if not separator or scheme != (b"https" if request.secure else b"http"):
        return False
    return with_port(authority, scheme) in [with_port(host.lower(), scheme) for host in hosts if host]


def origin_with_port(origin: bytes) -> bytes:
    """Return an origin in lower case; one of http or https gets the default port if it has no port."""
    scheme, separator, authority = origin.lower().partition(b"://")
    if scheme not in (b"http", b"https"):
        return origin.lower()
    return scheme + separator + with_port(authority, scheme)

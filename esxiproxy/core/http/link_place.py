"""The place of a link in a request: the path, the query, a cookie or a subprotocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from esxiproxy.core.http.request import Request

SUBPROTOCOL = b"esxiproxy.link."
"""The beginning of the subprotocol whose rest is a link."""


class PlaceKind(Enum):
    """A part of a request that may have a link."""

    PATH = "path"
    QUERY = "query"
    COOKIE = "cookie"
    SUBPROTOCOL = "subprotocol"


@dataclass(frozen=True, slots=True)
class LinkPlace:
    """The place where a router expects links.

    ``name`` is the beginning of the path up to the link, or the name of the parameter or of the cookie.
    """

    kind: PlaceKind
    name: bytes = b""

    def find(self, request: Request) -> bytes | None:
        """Return the link of a request, which is not verified, or None if there is none in this place.

        Everything behind the beginning of the path belongs to the link, so that no other router sees a part
        of it.  Of several parameters or cookies the first one counts.
        """
        path, _, query = request.head.target.partition(b"?")
        if self.kind is PlaceKind.PATH:
            return path.removeprefix(self.name) or None if path.startswith(self.name) else None
        if self.kind is PlaceKind.SUBPROTOCOL:
            return without_link(offered(request))[0]
        pairs = query.split(b"&") if self.kind is PlaceKind.QUERY else list(_cookies(request))
        for pair in pairs:
            name, equals, value = pair.partition(b"=")
            if name == self.name and equals:
                return value or None
        return None

    @property
    def secret(self) -> tuple[str, bytes] | None:
        """The part of a target or of the Cookie field that is a secret; None for a subprotocol."""
        return None if self.kind is PlaceKind.SUBPROTOCOL else (self.kind.value, self.name)

    def url(self, public_url: str, link: str) -> str:
        """Return the URL of a listener with a link, if links are in the path or in the query."""
        if self.kind is PlaceKind.PATH:
            return f"{public_url}{self.name.decode('ascii')}{link}"
        if self.kind is PlaceKind.QUERY:
            return f"{public_url}/?{self.name.decode('ascii')}={link}"
        return f"{public_url}/"

    def field(self, link: str) -> str:
        """Return the cookie or the subprotocol with a link, or an empty text if the URL has the link."""
        if self.kind is PlaceKind.COOKIE:
            return f"{self.name.decode('ascii')}={link}"
        return f"{SUBPROTOCOL.decode('ascii')}{link}" if self.kind is PlaceKind.SUBPROTOCOL else ""


def offered(request: Request) -> tuple[bytes, ...]:
    """Return the subprotocols that a request offers."""
    values = request.head.values(b"sec-websocket-protocol")
    return tuple(part.strip() for value in values for part in value.split(b",") if part.strip())


def _cookies(request: Request) -> Iterator[bytes]:
    for value in request.head.values(b"cookie"):
        yield from (pair.strip() for pair in value.split(b";"))


def without_link(subprotocols: Sequence[bytes]) -> tuple[bytes | None, tuple[bytes, ...]]:
    """Return the link that a client offers as a subprotocol, or None, and its other subprotocols.

    Of several links the first one counts.  The prefix may have any case, since what is not cut goes upstream.
    """
    links = [each[len(SUBPROTOCOL) :] for each in subprotocols if _has_link(each)]
    if not links:
        return None, tuple(subprotocols)
    return links[0], tuple(each for each in subprotocols if not _has_link(each))


def _has_link(subprotocol: bytes) -> bool:
    return len(subprotocol) >= len(SUBPROTOCOL) and subprotocol[: len(SUBPROTOCOL)].lower() == SUBPROTOCOL

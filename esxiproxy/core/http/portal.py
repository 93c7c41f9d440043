"""The requests that a listener with ``http = portal`` sends to the admin process, and who sends them.

The name, the groups, the address and the login of a client stand in fields that begin with X-Esxiproxy.
They are removed from all that a client sends, and are believed on the portal's socket only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.head import Fields
from esxiproxy.core.http.message import LazyRewriter, upstream_request
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import ResponseRewriter
from esxiproxy.core.routing import Destination, Principal, UnixAddress, Upstream

LISTENER = b"x-esxiproxy-listener"
PRINCIPAL = b"x-esxiproxy-principal"
GROUPS = b"x-esxiproxy-groups"
CLIENT = b"x-esxiproxy-client"
LOGIN = b"x-esxiproxy-login"
EXPIRES = b"x-esxiproxy-expires"
VISITOR_FIELDS = frozenset({LISTENER, PRINCIPAL, GROUPS, CLIENT, LOGIN, EXPIRES})
"""The fields, in lower case, that a client may not send."""
MAX_VISITOR_FIELDS = 48 << 10
"""Bytes of these fields."""
PORTAL_SECRETS = (("query", b"code"), ("query", b"state"))
"""The places in a target of what a provider of logins sends by way of the browser."""

_TEMPLATE = Upstream(
    "portal",
    "localhost",
    0,
    secure=False,
    host_field="client",
    origin_field="client",
    connection_limits={"max_connections": None},
)


@dataclass(frozen=True, slots=True)
class Visitor:
    """The client of a request to the portal.

    ``principal`` is None for a client that no authenticator knows.  ``client`` is its address, and
    ``listener`` the name of the listener that it uses.
    """

    listener: str
    client: str
    principal: Principal | None = None

    @property
    def login(self) -> str:
        """The id of the login, empty without one."""
        return "" if self.principal is None else self.principal.login


@dataclass(frozen=True, slots=True)
class PortalRequest:
    """A request for the portal: its target, its fields, and a function that returns the answer's rewriter."""

    target: bytes
    fields: Fields = field(repr=False)
    rewriter: LazyRewriter


def portal_destination(path: str) -> Destination:
    """Return the destination of the portal, whose unix socket has this path."""
    identity = _TEMPLATE.identity
    return Destination((UnixAddress(path),), False, identity, "portal", _TEMPLATE, is_listed=True)


def portal_request(request: Request, principal: Principal | None) -> PortalRequest:
    """Return the request for the portal, with the fields that say who sends it."""
    target, fields, rewriter = upstream_request(request, _TEMPLATE, None, principal)

    def secure_rewriter() -> ResponseRewriter:
        # The portal's cookies are Secure on any listener: browsers accept them from localhost as well.
        return replace(rewriter(), scheme=b"https")

    return PortalRequest(target, (*fields, *visitor_fields(request, principal)), secure_rewriter)


def visitor_fields(request: Request, principal: Principal | None) -> Fields:
    """Return the fields that say who sends a request.

    Raises AccessDenied for a principal that is too large for them.
    """
    found = [
        (b"X-Esxiproxy-Listener", request.listener.encode()),
        (b"X-Esxiproxy-Client", _quoted(request.client.host)),
    ]
    if principal is not None:
        section = principal.authenticator.partition(" ")[2]
        found.append((b"X-Esxiproxy-Principal", _quoted(section) + b"/" + _quoted(principal.name)))
        found.append((b"X-Esxiproxy-Groups", b",".join(map(_quoted, sorted(principal.groups)))))
        found.append((b"X-Esxiproxy-Login", _quoted(principal.login)))
        if principal.expires is not None:
            found.append((b"X-Esxiproxy-Expires", repr(float(principal.expires)).encode("ascii")))
    if (size := sum(len(name) + len(value) for name, value in found)) > MAX_VISITOR_FIELDS:
        raise AccessDenied(
            f"the name and the groups of this client take {size} bytes, and the portal takes "
            f"{MAX_VISITOR_FIELDS}: give it fewer groups, or let its authenticator pass on fewer"
        )
    return tuple(found)


def visitor_of(values: Callable[[bytes], Sequence[bytes] | None]) -> Visitor:
    """Return the client of a request; ``values`` returns the values of a field by its name in lower case.

    Raises ValueError for fields that no listener has written.
    """
    principal: Principal | None = None
    if (name := _one(values, PRINCIPAL)) is not None:
        section, slash, rest = name.partition("/")
        if not slash:
            raise ValueError(f"{PRINCIPAL.decode()} has no section")
        groups, expires = (_one(values, GROUPS) or "").split(","), _one(values, EXPIRES)
        principal = Principal(
            unquote(rest, errors="surrogateescape"),
            groups=frozenset(unquote(group, errors="surrogateescape") for group in groups if group),
            authenticator=f"authenticator {unquote(section)}",
            expires=None if expires is None else float(expires),
            login=unquote(_one(values, LOGIN) or ""),
        )
    listener, client = _one(values, LISTENER), _one(values, CLIENT)
    if listener is None or client is None:
        raise ValueError(f"{LISTENER.decode()} or {CLIENT.decode()} is missing")
    return Visitor(listener, unquote(client), principal)


def _one(values: Callable[[bytes], Sequence[bytes] | None], name: bytes) -> str | None:
    found = values(name) or ()
    if len(found) > 1:
        raise ValueError(f"{name.decode()} is there twice")
    return found[0].decode("ascii") if found else None


def _quoted(text: str) -> bytes:
    return quote(text, safe="", errors="surrogateescape").encode("ascii")

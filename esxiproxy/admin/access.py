"""Decides which actor a request of the admin service has, and which requests are refused."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from esxiproxy.admin.call import Actor, ApiError
from esxiproxy.admin.openapi.operations import Role
from esxiproxy.core.config.model import Admin
from esxiproxy.core.http.request import host_of
from esxiproxy.core.http.rewriting import with_port
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal
from esxiproxy.core.unix_peer import unix_peer

_FOREIGN_SITE = "the request comes from a page of another site: nothing was done"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it arrived: its fields by name in lower case, its client, and its socket."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    client: PeerAddress
    secure: bool
    transport: Any

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all fields of this name (lower case)."""
        return [value for field, value in self.fields if field == name]


@dataclass(frozen=True, slots=True)
class Login:
    """The actor of a request, and fields of the answer such as Set-Cookie."""

    actor: Actor
    fields: tuple[tuple[bytes, bytes], ...] = ()


class Access(Protocol):
    """The rule of one address of the admin service."""

    def check_host(self, arrival: Arrival) -> None:
        """Raise ApiError when the Host field is none of the names of the address."""

    def login(self, arrival: Arrival) -> Awaitable[Login]:
        """Return the actor.  Raise ApiError or Unauthenticated."""

    def check_action(self, arrival: Arrival) -> None:
        """Raise ApiError when a page of another site may have sent an action."""


class SocketAccess:
    """The rule of the unix socket: every process that may open it is an operator.

    The kernel names the user of the process (SO_PEERCRED, unix(7)).
    """

    def check_host(self, arrival: Arrival) -> None:
        """Accept every host: the socket has no name."""

    async def login(self, arrival: Arrival) -> Login:
        return Login(Actor(str(unix_peer(arrival.transport.getHandle())), Role.OPERATOR, "unix"))

    def check_action(self, arrival: Arrival) -> None:
        """Refuse the requests of pages, which never come on a unix socket."""
        if arrival.values(b"origin"):
            raise ApiError(403, _FOREIGN_SITE)


Authenticate = Callable[[Arrival], Awaitable[Principal]]
"""Returns the principal of a request.  Raises Unauthenticated."""


class Unauthenticated(Exception):
    """A client that no authenticator knows; ``fields`` are those of the 401."""

    def __init__(self, status: int, text: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.fields = fields


class ListenAccess:
    """The rule of ``listen``, the address for people.

    Without ``authenticate``, every client of the address is a viewer.
    """

    def __init__(
        self,
        admin: Admin,
        authenticate: Authenticate | None,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._time_of_day = time_of_day
        self._admin = admin
        self._authenticate = authenticate

    def check_host(self, arrival: Arrival) -> None:
        """Refuse a Host field that is none of ``names``: a name that a foreign page had rebound."""
        hosts = arrival.values(b"host")
        if len(hosts) != 1 or host_of(hosts[0]) not in self._admin.names:
            raise ApiError(
                421, "this address has no such host name: set `names` in [admin] to those that people use"
            )

    async def login(self, arrival: Arrival) -> Login:
        source = str(arrival.client)
        if self._authenticate is None:
            return Login(Actor("anonymous", Role.VIEWER, source))
        principal = await self._authenticate(arrival)
        section = principal.authenticator.partition(" ")[2]
        name = f"{section}/{principal.name}" if section else principal.name
        left = None if principal.expires is None else max(0.0, principal.expires - self._time_of_day())
        return Login(Actor(name, self._role(principal), source, left), principal.response_fields)

    def _role(self, principal: Principal) -> Role | None:
        plain, qualified = principal.names
        known = {qualified, *(f"@{group}" for group in principal.groups)}
        if not plain.startswith("@") and "/" not in plain:  # else it may look like a group or another's name
            known.add(plain)
        if known & self._admin.operators:
            return Role.OPERATOR
        return Role.VIEWER if known & self._admin.viewers else None

    def check_action(self, arrival: Arrival) -> None:
        """Refuse an action whose Origin is not this address, or whose browser says that it is foreign."""
        origins, sites = arrival.values(b"origin"), arrival.values(b"sec-fetch-site")
        if any(site.lower() not in (b"same-origin", b"none") for site in sites):
            raise ApiError(403, _FOREIGN_SITE)
        if origins and not (len(origins) == 1 and _is_own(origins[0], arrival)):
            raise ApiError(403, _FOREIGN_SITE)


def _is_own(origin: bytes, arrival: Arrival) -> bool:
    """Return whether an Origin is that of the Host field; a proxy in front may add TLS."""
    scheme, separator, authority = origin.lower().partition(b"://")
    schemes = (b"https",) if arrival.secure else (b"http", b"https")
    (host,) = arrival.values(b"host")
    if not separator or scheme not in schemes:
        return False
    return with_port(authority, scheme) == with_port(host.lower(), scheme)

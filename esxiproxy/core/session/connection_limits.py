"""Limits on the number of sessions and connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal

from esxiproxy.core.http.request import Request
from esxiproxy.core.networks import canonical
from esxiproxy.core.session.claim import Claim, RateClaim, SlotClaim
from esxiproxy.core.session.record import CONSOLE, Kind

ANONYMOUS_NAME = "anonymous"
"""The name of the principal that all unauthenticated clients share."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits on numbers that a listener or an upstream may set.  ``None`` stands for *off*.

    ``[proxy]`` has the defaults, a listener overrides them, and an upstream overrides both.  The limits apply
    to all processes that share a state together.  ``max_handshakes`` is divided among the workers.

    ``max_sessions``, ``max_sessions_per_`` ``client``, ``principal``, ``console``
        consoles at the listener, from one client network at the listener, of one principal, to one console.
    ``max_connections``
        connections to one upstream host, for consoles and plain HTTP.  ESXi itself accepts 128.
    ``max_http_connections``
        connections out of these for plain HTTP, a number or ``"half"`` of them.
    ``max_http_connections_per_client``
        upstream connections for the plain HTTP of one client network at the listener.
        It and ``max_http_connections`` are off when ``max_connections`` is off.
    ``max_handshakes``
        accepted connections of the listener that are not yet open, refused or served.
    ``session_rate``, ``session_burst``
        new consoles per second from one client network at the listener, and how many may start at once.
    ``queue_timeout``
        seconds that a client waits for a slot before it is refused.
    """

    max_sessions: int | None = None
    max_sessions_per_client: int | None = None
    max_sessions_per_principal: int | None = None
    max_sessions_per_console: int | None = 20
    max_connections: int | None = 64
    max_http_connections: int | Literal["half"] | None = "half"
    max_http_connections_per_client: int | None = 32
    max_handshakes: int | None = 1000
    session_rate: float | None = None
    session_burst: int = 20
    queue_timeout: float | None = None

    def overridden_by(self, overrides: Mapping[str, Any]) -> ConnectionLimits:
        """Return these limits with the given values, by field name, in their place."""
        return replace(self, **overrides) if overrides else self

    @property
    def http_part(self) -> int | None:
        """The connections to one upstream host that plain HTTP may have, None for no such limit."""
        if self.max_connections is None or self.max_http_connections is None:
            return None
        if self.max_http_connections == "half":
            return max(1, self.max_connections // 2)
        return self.max_http_connections

    def on_arrival(self, request: Request, kind: Kind = Kind.CONSOLE) -> tuple[Claim, ...]:
        """Return the claims of a session before its authentication.

        A plain HTTP request has no claims.
        """
        if kind is not CONSOLE or (
            self.max_sessions is None and self.max_sessions_per_client is None and self.session_rate is None
        ):
            return ()
        claims: list[Claim] = []
        network = client_network(request.client.host)
        if self.session_rate is not None and network is not None:
            name = f"rate {request.listener} {network}"
            claims.append(RateClaim("session_rate", name, self.session_rate, self.session_burst))
        if (of_listener := self.of_listener(request.listener)) is not None:
            claims.append(of_listener)
        if self.max_sessions_per_client is not None and network is not None:
            name = f"client {request.listener} {network}"
            claims.append(SlotClaim("max_sessions_per_client", name, self.max_sessions_per_client))
        return tuple(claims)

    def of_listener(self, name: str) -> SlotClaim | None:
        """Return the claim of each console at a listener, None for no such limit."""
        if self.max_sessions is None:
            return None
        return SlotClaim("max_sessions", f"listener {name}", self.max_sessions)

    def on_decision(
        self,
        principal: str,
        console: str | None,
        kind: Kind = Kind.CONSOLE,
        max_consoles: int | None = None,
    ) -> tuple[Claim, ...]:
        """Return the claims of a session once its principal and its console are known.

        ``max_consoles`` is the number of sessions that the console itself admits.
        """
        if kind is not CONSOLE or (console is None and principal == ANONYMOUS_NAME):
            return ()
        claims: list[Claim] = []
        if self.max_sessions_per_principal is not None and principal != ANONYMOUS_NAME:
            claims.append(
                SlotClaim(
                    "max_sessions_per_principal",
                    f"principal {principal}",
                    self.max_sessions_per_principal,
                )
            )
        limits = [most for most in (self.max_sessions_per_console, max_consoles) if most is not None]
        if limits and console is not None:
            claims.append(SlotClaim("max_sessions_per_console", f"console {console}", min(limits)))
        return tuple(claims)

    def on_dial(self, host: str, request: Request | None = None) -> tuple[Claim, ...]:
        """Return the claims of a connection to this IP address.

        All names of one host share its connections.  ``request`` is the plain HTTP request of the connection,
        None for a console.
        """
        if self.max_connections is None:
            return ()
        host = canonical(host)
        claims: list[Claim] = [] if request is None else [*self.on_http_client(request)]
        if request is not None and self.http_part is not None:
            claims.append(SlotClaim("max_http_connections", f"http upstream {host}", self.http_part))
        return (*claims, SlotClaim("max_connections", f"upstream {host}", self.max_connections))

    def on_http_client(self, request: Request) -> tuple[SlotClaim, ...]:
        """Return the claims of a connection for the plain HTTP of this client, to any host."""
        of_client = self.max_http_connections_per_client
        if self.max_connections is None or of_client is None:
            return ()
        if (network := client_network(request.client.host)) is None:
            return ()
        name = f"http client {request.listener} {network}"
        return (SlotClaim("max_http_connections_per_client", name, of_client),)


@lru_cache(maxsize=1024)
def client_network(host: str) -> str | None:
    """Return the network that counts as one client: an IPv4 address or an IPv6 /64.

    Return None for a unix socket, whose clients have no address.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(IPv6Network((int(address) >> 64 << 64, 64)))
        address = address.ipv4_mapped
    return f"{address}/32"

"""Upstreams, principals and routes: the values that routers and authenticators return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.networks import UNCHECKED, Networks
from esxiproxy.core.proxy_protocol import ProxyVersion
from esxiproxy.core.thumbprint import Pin, pinned, strongest_pins


class Verify(Enum):
    """The way in which an upstream's certificate is verified."""

    SYSTEM = "system"
    """A chain to the machine's certificate authorities, and the name."""
    CA = "ca"
    """A chain to the authorities of a file, and the name."""
    PIN = "pin"
    """The thumbprint of the certificate alone, as an ESXi ticket names its host."""
    NONE = "none"
    """No verification."""


class TLSProfile(Enum):
    """The TLS versions and ciphers for an upstream, by Mozilla's names."""

    INTERMEDIATE = "intermediate"
    """TLS 1.2 and 1.3 with ECDHE."""
    OLD = "old"
    """TLS 1.0 and 1.1 as well, key exchange by RSA and DHE, and hosts without secure renegotiation."""


class Subprotocol(Enum):
    """The treatment of a client that offers no subprotocol."""

    BRIDGE = "bridge"
    """Offer ``binary`` upstream and name no subprotocol downstream (noVNC from 1.2)."""
    PASS = "pass"
    """Offer no subprotocol upstream either."""


class Balance(Enum):
    """The order in which several addresses of an upstream are tried."""

    FIRST = "first"
    """In the order of the configuration."""
    ROUND_ROBIN = "round_robin"
    """Each session begins with the next address."""
    LEAST_SESSIONS = "least_sessions"
    """Addresses with the fewest connections come first."""
    HASH = "hash"
    """By the network of the client, whose order stays when addresses are added or removed."""


@dataclass(frozen=True, slots=True)
class TCPAddress:
    """A host, which is a name or an IP address, and its port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The rule by which the certificate of a host is verified.

    The strongest part that is set decides alone: ``certificate`` (DER), then ``pins`` with SHA-256, then
    those with SHA-1, then ``verify`` with the authorities in ``ca``.  ``server_name`` is the name for SNI and
    in the certificate; without it each address has its own host name.
    """

    verify: Verify = Verify.SYSTEM
    pins: tuple[Pin, ...] = ()
    certificate: bytes | None = None
    ca: Path | None = None
    server_name: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether the certificate itself or its thumbprint decides, and no chain."""
        return self.certificate is not None or bool(self.pins) or self.verify is Verify.PIN

    def fits(self, der: bytes) -> bool:
        """Return whether a leaf certificate, in DER, is the pinned one."""
        if self.certificate is not None:
            return der == self.certificate
        return pinned(der, strongest_pins(self.pins))


@dataclass(frozen=True, slots=True)
class Upstream:
    """A configured backend host, or the settings of one host of a router.

    ``host_field`` and ``origin_field`` are ``upstream`` (the upstream's own name), ``client`` (the client's
    field), ``none`` (for Origin only), or the value to send.  ``overrides`` and ``connection_limits``
    are the limits that the upstream's section sets, by the field names of
    :class:`esxiproxy.core.session_limits.SessionLimits` and
    :class:`esxiproxy.core.session.connection_limits.ConnectionLimits`.  ``certificate`` (DER) is the
    certificate to expect, and precedes ``pins`` and ``verify``.  ``server_name`` is the name for SNI and in
    the certificate instead of ``host``.  ``further`` are more addresses of the upstream.  ``balance`` is the
    order in which they are tried, and ``failover_delay`` the seconds that each has alone.
    ``health_check`` is ``off``, ``tcp``, ``tls`` or a path, None for the default.
    """

    name: str
    host: str
    port: int
    secure: bool
    verify: Verify = Verify.SYSTEM
    pins: tuple[Pin, ...] = ()
    ca: Path | None = None
    host_field: str = "upstream"
    origin_field: str = "upstream"
    subprotocol: Subprotocol = Subprotocol.BRIDGE
    send_proxy_protocol: ProxyVersion | None = None
    overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    connection_limits: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    tls_profile: TLSProfile = TLSProfile.INTERMEDIATE
    certificate: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    further: tuple[TCPAddress, ...] = ()
    balance: Balance = Balance.FIRST
    failover_delay: float = 1.0
    health_check: str | None = None

    @property
    def identity(self) -> Identity:
        """The rule by which its certificate is verified."""
        return Identity(self.verify, self.pins, self.certificate, self.ca, self.server_name)

    @property
    def authority(self) -> str:
        """The Host field of the upstream, ``host[:port]`` without the default port of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The upstream's own origin (RFC 6454), as a browser sends it for the upstream's pages."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity of a client.

    ``consumed`` has the names (lower case) of the request fields with the client's credentials.  These fields
    are not passed upstream.  ``groups`` are the client's groups.  ``authenticator`` is the section that
    identified the client, which the proxy sets.  ``expires`` is the time of day at which the login ends, None
    for no end.  ``consumed_cookies`` are the names of cookies with credentials, which are cut out of the
    Cookie field.  ``response_fields`` are added to the answer to the client, such as Set-Cookie.  ``login``
    is the id of a login of the portal, by which all of its consoles can be ended.
    """

    name: str
    consumed: frozenset[bytes] = frozenset()
    groups: frozenset[str] = frozenset()
    authenticator: str = ""
    expires: float | None = None
    consumed_cookies: frozenset[bytes] = frozenset()
    response_fields: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    login: str = field(default="", repr=False)

    @property
    def names(self) -> tuple[str, str]:
        """The name alone, and with the name of its authenticator in front, as in ``sso/alice``."""
        return self.name, f"{self.authenticator.partition(' ')[2]}/{self.name}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The fields of the 401 for a client without credentials, such as WWW-Authenticate (RFC 9110 11.6.1)."""

    fields: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """The host that a session goes to.

    ``addresses`` are tried by the rule of the template.  ``name`` is the host's name in records.
    ``template`` has the settings, and its name stands in records and metrics.  ``networks`` are those that
    may be dialled.  ``is_listed`` is whether the host is configured or in an inventory.  There is a bounded
    number of such hosts, and metrics name no others.
    """

    addresses: tuple[TCPAddress | UnixAddress, ...]
    secure: bool
    identity: Identity
    name: str
    template: Upstream
    networks: Networks = UNCHECKED
    is_listed: bool = False

    @classmethod
    def of(cls, upstream: Upstream) -> Destination:
        """Return the destination of a configured upstream."""
        first = TCPAddress(upstream.host, upstream.port)
        addresses = (first, *upstream.further)
        return cls(addresses, upstream.secure, upstream.identity, upstream.name, upstream, is_listed=True)

    @property
    def names(self) -> frozenset[str]:
        """The name and the hosts of the destination, in lower case."""
        hosts = (address.host for address in self.addresses if isinstance(address, TCPAddress))
        return frozenset(name.lower() for name in (self.name, *hosts))

    def upstream_at(self, address: TCPAddress | UnixAddress) -> Upstream:
        """Return the settings of a connection to one of the addresses."""
        template = self.template
        host, port = (address.host, address.port) if isinstance(address, TCPAddress) else ("localhost", 0)
        if (
            (template.host, template.port, template.secure) == (host, port, self.secure)
            and template.identity == self.identity
            and not template.further
        ):
            return template
        identity = self.identity
        return replace(
            template,
            host=host,
            port=port,
            secure=self.secure,
            verify=identity.verify,
            pins=identity.pins,
            certificate=identity.certificate,
            ca=identity.ca,
            server_name=identity.server_name,
            further=(),
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """Restrictions of a console.  A restriction that the proxy cannot enforce refuses the session."""

    view: bool = False
    record: bool = False
    clipboard: bool = True
    power: bool = True
    resize: bool = True


UNRESTRICTED = Policy()
"""The policy of a console without restrictions."""


@dataclass(frozen=True, slots=True)
class Route:
    """The answer of a router: the host of one session.

    ``target`` replaces the client's request target if it is not None.  ``console`` names the console for
    ``max_sessions_per_console``.  ``principal`` is the client's identity where the router knows it, and has
    to agree with that of the authenticator.  ``limits`` shorten limits of the session, by their field names.
    ``claims`` are taken with those of the decision, such as the mark of a link that works once.  ``link`` is
    the id of the link that the session was opened with.  ``prefix`` is the part of the path in front of the
    host's own paths, without a final slash; Location and the Path of cookies get it.  ``max_consoles`` is the
    number of sessions that the console itself admits, and lowers ``max_sessions_per_console``.
    ``console_name`` is the name of the console for people, in records.
    """

    destination: Destination
    target: bytes | None = field(default=None, repr=False)
    console: str | None = None
    principal: Principal | None = None
    limits: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    claims: tuple[Any, ...] = ()
    policy: Policy = UNRESTRICTED
    link: str = ""
    prefix: bytes = b""
    max_consoles: int | None = None
    console_name: str = ""
    acquire: Callable[[], Awaitable[Route]] | None = field(default=None, compare=False)

    @classmethod
    def to(cls, upstream: Upstream, target: bytes | None = None, console: str | None = None) -> Route:
        """Return the route to a configured upstream."""
        return cls(Destination.of(upstream), target, console)

    @property
    def upstream(self) -> Upstream:
        """The upstream whose settings the session has."""
        return self.destination.template

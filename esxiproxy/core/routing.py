"""Upstreams, principals and routes: the values that routers and authenticators return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.proxy_protocol import ProxyVersion
from esxiproxy.core.thumbprint import Pin


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
    """Also TLS 1.0 and 1.1, key exchange by RSA and DHE, and hosts without secure renegotiation."""


class Subprotocol(Enum):
    """The treatment of a client that offers no subprotocol."""

    BRIDGE = "bridge"
    """Offer ``binary`` upstream and name no subprotocol downstream (noVNC from 1.2)."""
    PASS = "pass"
    """Offer no subprotocol upstream either."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A configured backend host.

    ``host_field`` and ``origin_field`` are ``upstream`` (the upstream's own name), ``client`` (the client's
    field), ``none`` (for Origin only), or the value to send.  ``overrides`` and ``connection_limits``
    are the limits that the upstream's section sets, by the field names of
    :class:`esxiproxy.core.session_limits.SessionLimits` and
    :class:`esxiproxy.core.session.connection_limits.ConnectionLimits`.
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


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity of a client.

    ``consumed`` has the names (lower case) of the request fields with the client's credentials.  These fields
    are not passed upstream.  ``groups`` are the client's groups.  ``authenticator`` is the section that
    identified the client, which the proxy sets.
    """

    name: str
    consumed: frozenset[bytes] = frozenset()
    groups: frozenset[str] = frozenset()
    authenticator: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The fields of the 401 for a client without credentials, such as WWW-Authenticate (RFC 9110 11.6.1)."""

    fields: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Route:
    """The upstream of one session.  ``target`` replaces the client's request target if it is not None.

    ``console`` names the console for ``max_sessions_per_console``.
    """

    upstream: Upstream
    target: bytes | None = field(default=None, repr=False)
    console: str | None = None

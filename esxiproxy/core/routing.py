"""What a router answers: which upstream, which target."""

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
    """How an upstream shows who it is."""

    SYSTEM = "system"
    """A chain to the machine's certificate authorities, and the name."""
    CA = "ca"
    """A chain to the authorities of a file, and the name."""
    PIN = "pin"
    """The thumbprint of its certificate, and nothing else: the way an ESXi ticket names its host."""
    NONE = "none"
    """Not at all."""


class TLSProfile(Enum):
    """Which TLS an upstream may speak, by Mozilla's names; who the upstream is, ``Verify`` says."""

    INTERMEDIATE = "intermediate"
    """TLS 1.2 and 1.3 with ECDHE."""
    OLD = "old"
    """Also TLS 1.0 and 1.1, key exchange by RSA and DHE, and hosts without secure renegotiation."""


class Subprotocol(Enum):
    """What happens to a client that offers no subprotocol."""

    BRIDGE = "bridge"
    """``binary`` is offered upstream in its place, and not mentioned downstream (noVNC from 1.2)."""
    PASS = "pass"
    """Nothing is offered upstream either."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A configured backend host.

    ``host_field`` and ``origin_field`` are ``upstream`` (the upstream's own name), ``client`` (as it came),
    for Origin also ``none``, or the very value to send.  ``overrides`` are the limits that the upstream sets
    itself, by the names of :class:`esxiproxy.core.session_limits.SessionLimits`.
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
    quotas: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    tls_profile: TLSProfile = TLSProfile.INTERMEDIATE

    @property
    def authority(self) -> str:
        """``host[:port]`` as a Host field has it: the default port of the scheme is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The upstream's own origin (RFC 6454), as its own pages would send it."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who the client turned out to be.

    ``consumed`` names the request fields (lower case) that the authenticator took its decision from, a
    password or a token: they are not passed upstream.
    """

    name: str
    consumed: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """Where one session goes; ``target`` replaces the client's request target when it is given."""

    upstream: Upstream
    target: bytes | None = field(default=None, repr=False)
    console: str | None = None

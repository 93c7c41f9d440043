"""What a configuration says of a listener."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http as Http
from esxiproxy.core.http.policy import ListenerPolicy as ListenerPolicy
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits


class TLSVersion(Enum):
    """The oldest TLS version that a listener speaks."""

    V1_2 = "1.2"
    V1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class ListenerTLS:
    """A listener's own certificate, and what it asks of clients.

    ``certificate`` has the listener's certificate and then its chain.  With ``client_ca``, a client needs a
    certificate that one of these authorities has signed.
    """

    certificate: Path
    private_key: Path
    minimum: TLSVersion = TLSVersion.V1_2
    client_ca: Path | None = None


MANHOLE = " manhole"
"""The name of the manhole's socket among those of the listeners, none of which can have it."""


@dataclass(frozen=True, slots=True)
class Manhole:
    """Where operators may look inside by SSH: a Twisted endpoint description, and the files of keys."""

    endpoint: str
    keys: Path
    host_key: Path


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound port with its TLS and its policy.

    ``endpoint`` is a Twisted server endpoint description of the bare transport, without TLS; ``address`` is
    what the file says, for people.  ``router`` and ``authenticator`` are names of plugins; ``upstream`` is
    what the router ``static`` needs.  ``http`` and what stands behind
    ``limits`` make up its ``edge``.
    """

    name: str
    endpoint: str
    address: str
    tls: ListenerTLS | None = None
    upstream: str | None = None
    router: str = "static"
    authenticator: str = "anonymous"
    http: Http = Http.REFUSE
    limits: SessionLimits = field(default_factory=SessionLimits)
    quotas: ConnectionLimits = field(default_factory=ConnectionLimits)
    paths: tuple[bytes, ...] = ()
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    proxy_protocol: bool = False
    health: bytes | None = None

    @property
    def edge(self) -> ListenerPolicy:
        """What the listener lets in."""
        return ListenerPolicy(self.http, self.paths, self.trusted_proxies, self.proxy_protocol, self.health)

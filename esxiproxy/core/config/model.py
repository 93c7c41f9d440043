"""The values of a configuration file: listeners, upstreams, limits and services."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from esxiproxy.core.access import AccessRule
from esxiproxy.core.config.access_log import AccessLogConfig, SessionLogFilter
from esxiproxy.core.config.errors import Problem, Severity
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.core.config.vsphere import VSphere
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.origins import Origins
from esxiproxy.core.http.policy import Http as Http
from esxiproxy.core.http.policy import ListenerPolicy as ListenerPolicy
from esxiproxy.core.networks import Network
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits


class TLSVersion(Enum):
    """The oldest TLS version that a listener accepts."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class ClientCertificates(Enum):
    """The rule for clients of a listener with ``client_ca`` that have no certificate."""

    REQUIRED = "required"
    """The TLS handshake of such clients fails."""
    OPTIONAL = "optional"
    """Such clients are served.  An authenticator decides about them."""


@dataclass(frozen=True, slots=True)
class ListenerTLS:
    """The TLS configuration of a listener.

    ``certificate`` has the listener's certificate and then its chain.  With ``client_ca``, a certificate of a
    client has to be signed by one of these authorities, and ``client_certificates`` is whether every client
    needs one.
    """

    certificate: Path
    private_key: Path
    minimum: TLSVersion = TLSVersion.V1_2
    client_ca: Path | None = None
    client_certificates: ClientCertificates = ClientCertificates.REQUIRED


MANHOLE = " manhole"
"""The name of the manhole's socket.  A listener's name has no space."""


@dataclass(frozen=True, slots=True)
class Manhole:
    """The operator shell (SSH): a Twisted endpoint description and the key files."""

    endpoint: str
    keys: Path
    host_key: Path


ADMIN_SOCKET, ADMIN_LISTEN, ADMIN_PROBE = " admin socket", " admin listen", " admin probe_listen"
"""The names of the sockets of [admin]."""
ADMIN_MANHOLE = " admin manhole"
"""The name of the unix socket of ``esxiproxy manhole``."""


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """An address of [admin]: a Twisted endpoint description, and the value in the file."""

    endpoint: str
    text: str


@dataclass(frozen=True, slots=True)
class Admin:
    """The addresses of the admin service, and who may use them.

    ``socket`` is the path of the unix socket of the terminal commands.  ``viewers`` and ``operators`` are
    names of principals, and of groups with an at sign, for ``listen``.  ``names`` are the hosts in lower case
    that a Host field on ``listen`` may have.
    """

    socket: Path
    socket_group: str | None = None
    listen: AdminAddress | None = None
    tls: ListenerTLS | None = None
    authenticators: tuple[PluginSection, ...] = ()
    viewers: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    probe_listen: AdminAddress | None = None
    audit_log: Path | None = None

    @property
    def endpoints(self) -> tuple[tuple[str, str], ...]:
        """Pairs of the name and the Twisted endpoint description of each socket.

        The unix socket is bound for its owner only, and gets ``socket_group`` afterwards, which a reload may
        change.
        """
        found = [(ADMIN_SOCKET, _unix_endpoint(self.socket))]
        for name, address in ((ADMIN_LISTEN, self.listen), (ADMIN_PROBE, self.probe_listen)):
            if address is not None:
                found.append((name, address.endpoint))
        return tuple(found)

    @property
    def manhole_endpoint(self) -> str:
        """The Twisted endpoint description of the unix socket of ``esxiproxy manhole``."""
        return _unix_endpoint(manhole_socket(self.socket))


def _unix_endpoint(path: Path) -> str:
    """Return the endpoint of a unix socket that its owner alone may open."""
    escaped = re.sub(r"([\\:=])", r"\\\1", str(path))
    return f"unix:{escaped}:mode=600"


def manhole_socket(admin_socket: Path) -> Path:
    """Return the path of the socket of ``esxiproxy manhole`` beside the socket of [admin].

    It is ``manhole.sock`` beside ``admin.sock``, and ``NAME.manhole`` beside a socket of another name.
    """
    name = admin_socket.name
    return admin_socket.with_name("manhole.sock" if name == "admin.sock" else f"{name}.manhole")


@dataclass(frozen=True, slots=True)
class TicketRewriting:
    """The rule for tickets in answers: they name the listener instead of the host.

    ``networks`` are those of the hosts.  ``url`` is that of the listener for clients, and ``certificate`` the
    file whose first certificate they get.
    """

    networks: tuple[Network, ...]
    url: str
    certificate: Path


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener with its TLS and its policy.

    ``endpoint`` is a Twisted server endpoint description of the transport without TLS.  ``address`` is the
    value in the file.  ``routers`` and ``authenticators`` are asked in their order.  ``upstream`` is the
    upstream of a router ``static`` that has no section.  ``policy`` combines ``http``, ``paths``,
    ``trusted_proxies``, ``proxy_protocol``, ``health`` and ``origins``.  ``public_url`` is the URL of the
    listener for clients, without a slash at its end.  ``embed`` are the origins of pages that may show the
    portal in a frame.  ``tickets`` is the rule for tickets in answers, None where they are not changed.
    ``public_certificate`` is the file with the certificate that clients of ``public_url`` get.
    """

    name: str
    endpoint: str
    address: str
    tls: ListenerTLS | None = None
    upstream: str | None = None
    routers: tuple[PluginSection, ...] = ()
    authenticators: tuple[PluginSection, ...] = ()
    http: Http = Http.REFUSE
    limits: SessionLimits = field(default_factory=SessionLimits)
    connection_limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    paths: tuple[bytes, ...] = ()
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    proxy_protocol: bool = False
    health: bytes | None = None
    origins: Origins | None = None
    public_url: str | None = None
    embed: tuple[str, ...] = ()
    tickets: TicketRewriting | None = None
    public_certificate: Path | None = None

    @property
    def policy(self) -> ListenerPolicy:
        """The policy of the listener."""
        return ListenerPolicy(
            self.http, self.paths, self.trusted_proxies, self.proxy_protocol, self.health, self.origins
        )


Lines = Mapping[tuple[str, str | None], int]
"""Line numbers by section header and key."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration.

    ``source`` is the path as it was given.  All other paths are absolute, so that a daemon may change its
    folder.  ``services`` has the names of service plugins.  ``workers`` is the number of processes.
    ``state`` is the file or the Redis database that they share, None for the memory of one process.
    ``machine`` is the name of this machine, empty for its host name.
    ``worker_shutdown_timeout`` is in seconds.  ``access`` has the rules for machines by their names.
    ``lines`` has the line of each key, and of each header under the key None.  ``content`` is the content of
    the file.  ``warnings`` are the problems that do not prevent the use of the configuration.
    """

    source: Path
    listeners: tuple[Listener, ...]
    upstreams: Mapping[str, Upstream]
    routers: Mapping[str, PluginSection] = field(default_factory=lambda: MappingProxyType({}))
    authenticators: Mapping[str, PluginSection] = field(default_factory=lambda: MappingProxyType({}))
    limits: SessionLimits = field(default_factory=SessionLimits)
    services: tuple[str, ...] = ()
    manhole: Manhole | None = None
    access_log: AccessLogConfig | None = None
    session_log: SessionLogFilter = SessionLogFilter.ALL
    connection_limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    workers: int = 1
    worker_shutdown_timeout: float | None = None
    state: Path | RedisAddress | None = None
    machine: str = ""
    admin: Admin | None = None
    vspheres: Mapping[str, VSphere] = field(default_factory=lambda: MappingProxyType({}))
    access: Mapping[str, AccessRule] = field(default_factory=lambda: MappingProxyType({}))
    lines: Lines = field(default_factory=lambda: MappingProxyType({}), repr=False, compare=False)
    content: bytes = field(default=b"", repr=False, compare=False)
    warnings: tuple[Problem, ...] = field(default=(), repr=False, compare=False)

    @property
    def has_portal(self) -> bool:
        """Whether a listener serves the portal."""
        return any(listener.http is Http.PORTAL for listener in self.listeners)

    @property
    def needs_master(self) -> bool:
        """Whether a master runs the workers: there are several, or they ask an admin process.

        The machines of vCenter are read in a process without consoles, since it takes longer than a key press
        may wait.
        """
        return self.workers > 1 or self.needs_sites

    @property
    def needs_admin_process(self) -> bool:
        """Whether a master starts an admin process."""
        return self.admin is not None or bool(self.services) or self.needs_sites

    @property
    def needs_sites(self) -> bool:
        """Whether the admin process has private sites, which the workers ask."""
        return self.has_portal or bool(self.vspheres)

    @property
    def admin_endpoints(self) -> tuple[tuple[str, str], ...]:
        """Pairs of the name and the Twisted endpoint description of each socket of the admin process."""
        found = [] if self.admin is None else list(self.admin.endpoints)
        if self.manhole is not None and self.admin is not None:
            found.append((ADMIN_MANHOLE, self.admin.manhole_endpoint))
        if self.manhole is not None and self.needs_admin_process:
            found.append((MANHOLE, self.manhole.endpoint))
        return tuple(found)

    def problem(
        self, section: str, key: str | None, text: str, severity: Severity = Severity.ERROR
    ) -> Problem:
        """Return a problem that another check found with a key, in the form of ``load``.

        ``section`` is the header without its brackets.  A key that is not set has the line of its header, and
        a configuration without a file has line 1.
        """
        line = self.lines.get((section, key)) or self.lines.get((section, None)) or 1
        return Problem(str(self.source), line, section, key, text, severity)

"""The conversion of ``listen`` directives to the addresses of listeners."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.listen_address import ListenAddress, listen_address
from esxiproxy.nginx.source import Complaints, Directive

_ADDRESS = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d+))?|(\d+))")
_PORTS = re.compile(r"\d+-\d+")
_NEEDLESS = frozenset({"default_server", "default", "bind", "ipv6only=off", "ipv6only=on"})
_LOST = {
    "http2": "esxiproxy speaks only HTTP/1.1, which all clients support",
    "quic": "esxiproxy speaks only HTTP/1.1 over TCP",
    "spdy": "esxiproxy speaks HTTP/1.1",
    "reuseport": "esxiproxy opens one socket for a listener",
}
_IPV6_TOO = "esxiproxy accepts IPv4 on [::] as well, and nginx does not (ipv6only=on)"


@dataclass(frozen=True, slots=True)
class Listen:
    """One address of a server.

    ``host`` is ``*``, an IPv4 address, an IPv6 one in brackets, or empty for a unix socket, whose ``path``
    is set then.
    """

    directive: Directive
    host: str
    port: int
    path: str = ""
    secure: bool = False
    default: bool = False
    proxy_protocol: bool = False
    backlog: str = ""
    six_only: bool = False
    comment: str = ""

    @property
    def text(self) -> str:
        """The value of ``listen``."""
        if self.path:
            return f"unix:{self.path}{f':backlog={self.backlog}' if self.backlog else ''}"
        host = "0.0.0.0" if self.host == "*" else self.host
        if not self.backlog:
            return f"{host}:{self.port}"
        if host.startswith("["):
            escaped = host[1:-1].replace(":", "\\:")
            return f"tcp6:port={self.port}:interface={escaped}:backlog={self.backlog}"
        return f"tcp:port={self.port}:interface={host}:backlog={self.backlog}"

    @property
    def address(self) -> ListenAddress:
        """The address that the listener binds."""
        return listen_address(self.text, Path("/"))

    @property
    def name(self) -> str:
        """The name of a listener whose server has no server_name."""
        if self.path:
            return f"unix-{Path(self.path).stem}"
        return f"port-{self.port}" if self.host in ("*", "[::]") else f"{self.host.strip('[]')}-{self.port}"


def parse_listens(server: Directive, always_secure: bool, complaints: Complaints) -> list[Listen]:
    """Return the addresses of a server, port 80 if it has no ``listen`` (nginx's default)."""
    directives = [directive for directive in server.block or () if directive.name == "listen"]
    if not directives:
        return [Listen(server, "*", 80, secure=always_secure, comment="nginx's default")]
    found = [listen for directive in directives if (listen := _listen(directive, complaints))]
    if always_secure:
        found = [replace(listen, secure=True) for listen in found]
    return _paired(found, complaints)


def _listen(directive: Directive, complaints: Complaints) -> Listen | None:
    """Convert one ``listen``; return None and complain if its address cannot be converted."""
    address, *parameters = directive.args or ("",)
    if address.startswith("unix:"):
        listen = Listen(directive, "", 0, path=address.removeprefix("unix:"))
    else:
        found = _ADDRESS.fullmatch(address)
        if found is None or _PORTS.fullmatch(address):
            complaints.add(directive, f"{address} is not a single address")
            return None
        host, port, bare = found.groups()
        if host and host.isdigit() and port is None:  # "80" fits both halves of the pattern
            host, bare = None, host
        listen = Listen(directive, host or "*", int(bare or port or 80))
    for parameter in parameters:
        listen = _apply(listen, parameter, complaints)
    if listen.host == "[::]" and "ipv6only=off" not in parameters:
        listen = replace(listen, six_only=True)
    try:
        listen_address(listen.text, Path("/"))
    except BadValue as error:
        complaints.add(directive, str(error))
        return None
    return listen


def _apply(listen: Listen, parameter: str, complaints: Complaints) -> Listen:
    match parameter.partition("=")[0]:
        case "ssl":
            return replace(listen, secure=True)
        case "proxy_protocol":
            return replace(listen, proxy_protocol=True)
        case "backlog":
            return replace(listen, backlog=parameter.partition("=")[2])
        case "default_server" | "default":
            return replace(listen, default=True)
    if parameter not in _NEEDLESS:
        text = _LOST.get(parameter, "a listener has no equivalent")
        complaints.add(listen.directive, f"{parameter}: {text}")
    return listen


def _paired(listens: Sequence[Listen], complaints: Complaints) -> list[Listen]:
    """Merge ``80`` and ``[::]:80`` into one address, because our ``[::]:80`` accepts both."""
    kept = []
    for listen in listens:
        other = _other_family(listen, listens)
        if listen.six_only and other is None:
            complaints.add(listen.directive, _IPV6_TOO)
        if listen.six_only and other is not None:
            listen = replace(
                listen, default=listen.default or other.default, comment="includes every IPv4 address"
            )
        if listen.host != "*" or other is None:
            kept.append(listen)
    return kept


def _other_family(listen: Listen, listens: Sequence[Listen]) -> Listen | None:
    wanted = {"*": "[::]", "[::]": "*"}.get(listen.host)
    if listen.host == "[::]" and not listen.six_only:
        return None
    for other in listens:
        same = (other.port, other.secure, other.proxy_protocol) == (
            listen.port,
            listen.secure,
            listen.proxy_protocol,
        )
        if same and other.host == wanted and (other.host == "*" or other.six_only):
            return other
    return None

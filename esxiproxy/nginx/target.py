"""The target of a ``proxy_pass``: scheme, host and port, with variables and upstream blocks resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.url import UpstreamURL, upstream_url
from esxiproxy.nginx.scope import Scope, expand, unknown_variables
from esxiproxy.nginx.source import Complaints, Directive

URL = re.compile(r"(?i)(https?)://([^/?#]*)(.*)")
_BOUND = re.compile(r"\[[^\]]*\](?::\d+)?|[^:]+(?::\d+)?")
# Parameters without effect for the only server of a block.
_SERVER_NEEDLESS = ("weight=", "max_fails=", "fail_timeout=", "slow_start=")
_CODE = ("balancer_by_", "js_", "perl")

Blocks = Mapping[str, Directive]
"""The ``upstream`` blocks by their names."""


class NotConverted(Exception):
    """Raised for a location that cannot be converted, after the complaint about it."""


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream's address; ``proxy_host`` is nginx's ``$proxy_host``, ``block`` the upstream block.

    ``comments`` are written into the upstream's section.
    """

    url: UpstreamURL
    proxy_host: str
    block: str = ""
    comments: tuple[str, ...] = ()

    @property
    def secure(self) -> bool:
        """Whether nginx connects with TLS."""
        return self.url.secure

    @property
    def port(self) -> str:
        """The port, nginx's ``$proxy_port``."""
        return str(self.url.port)

    def is_own_host(self, value: str) -> bool:
        """Return whether the proxy sends this Host field by default."""
        return value.lower() == self.own_host.lower()

    def is_own_name(self, value: str) -> bool:
        """Return whether this is the name for which the proxy requires a certificate."""
        return value.lower() == self.url.host

    @property
    def authority(self) -> str:
        """The target's ``HOST:PORT``, always with the port."""
        return f"{self.bracketed}:{self.url.port}"

    @property
    def bracketed(self) -> str:
        """The host, in brackets if it is an IPv6 address."""
        return f"[{self.url.host}]" if ":" in self.url.host else self.url.host

    @property
    def proxy_name(self) -> str:
        """The ``$proxy_host`` without its port, for which nginx requires a certificate."""
        return without_port(self.proxy_host).strip("[]")

    @property
    def own_host(self) -> str:
        """The Host field that the proxy sends by default."""
        default = 443 if self.url.secure else 80
        return self.bracketed if self.url.port == default else self.authority


def resolve_target(
    passing: Directive, path: str, scope: Scope, blocks: Blocks, complaints: Complaints
) -> Target:
    """Return the target of a location with this path prefix.  Raises NotConverted."""
    given = passing.args[0] if passing.args else ""
    text = expand(given, scope.variables())
    stripped = text.removesuffix("$request_uri").removesuffix("${request_uri}")
    if variables := unknown_variables(stripped):
        names = ", ".join(dict.fromkeys(variables))
        raise refuse(
            passing, complaints, f"the target {given} depends on {names} at run time: write a router"
        )
    found = URL.fullmatch(stripped)
    if found is None:
        raise refuse(passing, complaints, f"{given} is not an http:// or https:// URL")
    scheme, authority, uri = found.groups()
    if authority == "unix:":
        raise refuse(passing, complaints, "esxiproxy connects to upstreams by TCP, not by unix sockets")
    changed = uri if stripped == text else uri or None  # with $request_uri nginx does not replace the path
    if changed and (changed != path or stripped != text):
        text = f"{path} is replaced by {changed}: esxiproxy forwards the client's path byte for byte"
        raise refuse(passing, complaints, text)
    return target_of(passing, scheme.lower() == "https", authority, blocks, complaints)


def target_of(
    directive: Directive, secure: bool, authority: str, blocks: Blocks, complaints: Complaints
) -> Target:
    """Return the target with this host and port, or the first server of the block with this name.

    Raises NotConverted.
    """
    if authority in blocks:
        return _of_block(blocks[authority], secure, complaints)
    url = _url(directive, secure, authority, complaints)
    host = without_port(authority) if url.port == (443 if secure else 80) else authority
    return Target(url, host)


def _of_block(block: Directive, secure: bool, complaints: Complaints) -> Target:
    """Return the first server of an upstream block, and complain if there are several."""
    for directive in block.block or ():
        if directive.name.startswith(_CODE):
            raise refuse(
                directive, complaints, f"the target of {block.args[0]} is chosen at run time: write a router"
            )
    servers = [directive for directive in block.block or () if directive.name == "server" and directive.args]
    usable = [server for server in servers if not {"down", "backup"} & set(server.args)]
    if not usable:
        raise refuse(block, complaints, f"{block.args[0]} has no server that is up")
    chosen, comments = usable[0], []
    if len(servers) > 1:
        rest = ", ".join(server.args[0] for server in servers if server is not chosen)
        text = f"{block.args[0]} has {len(servers)} servers, and an upstream is one host"
        complaints.add(block, f"{text}: {chosen.args[0]} is used, without {rest}")
        comments.append(f"the first of {len(servers)} servers; omitted: {rest}")
    for parameter in chosen.args[1:]:
        if not parameter.startswith(_SERVER_NEEDLESS):
            complaints.add(chosen, f"{parameter}: an upstream has no equivalent")
    address = chosen.args[0]
    if address.startswith("unix:"):
        raise refuse(chosen, complaints, "esxiproxy connects to upstreams by TCP, not by unix sockets")
    if not re.search(r":\d+\Z", address):
        address += ":80"
        if secure:
            comments.append("port 80 is nginx's default in an upstream block, also for https")
    return Target(_url(chosen, secure, address, complaints), block.args[0], block.args[0], tuple(comments))


def _url(directive: Directive, secure: bool, authority: str, complaints: Complaints) -> UpstreamURL:
    try:
        if not _BOUND.fullmatch(authority):
            raise BadValue(f"{authority or 'an empty text'} is not a host")
        return upstream_url(f"{'wss' if secure else 'ws'}://{authority}")
    except BadValue as error:
        raise refuse(directive, complaints, str(error))


def refuse(directive: Directive, complaints: Complaints, text: str) -> NotConverted:
    """Add a complaint, and return the error to be raised."""
    complaints.add(directive, text)
    return NotConverted(text)


def without_port(authority: str) -> str:
    """Return ``HOST`` of ``HOST:PORT``."""
    return re.sub(r":\d+\Z", "", authority)

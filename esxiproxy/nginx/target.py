"""Where a ``proxy_pass`` leads: scheme, host and port, through variables and upstream blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.url import UpstreamURL, upstream_url
from esxiproxy.nginx.scope import Scope, expanded, unknown
from esxiproxy.nginx.source import Complaints, Directive

_URL = re.compile(r"(?i)(https?)://([^/?#]*)(.*)")
_BOUND = re.compile(r"\[[^\]]*\](?::\d+)?|[^:]+(?::\d+)?")
# Of the only server of a block they mean nothing (nginx's own words), or nothing without a balancer.
_SERVER_NEEDLESS = ("weight=", "max_fails=", "fail_timeout=", "slow_start=")
_CODE = ("balancer_by_", "js_", "perl")

Blocks = Mapping[str, Directive]
"""The ``upstream`` blocks by their names."""


class NotCarried(Exception):
    """A location cannot be carried over; a complaint says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream's address; ``proxy_host`` is nginx's ``$proxy_host``, ``block`` the upstream block.

    ``comments`` are for whoever reads the section.
    """

    url: UpstreamURL
    proxy_host: str
    block: str = ""
    comments: tuple[str, ...] = ()

    @property
    def authority(self) -> str:
        """``HOST:PORT`` with the port in any case."""
        return f"{self.bracketed}:{self.url.port}"

    @property
    def bracketed(self) -> str:
        """The host as a URL has it."""
        return f"[{self.url.host}]" if ":" in self.url.host else self.url.host

    @property
    def proxy_name(self) -> str:
        """``$proxy_host`` without a port: the name that nginx wants a certificate for."""
        return _unported(self.proxy_host).strip("[]")

    @property
    def own_host(self) -> str:
        """The Host field that the proxy sends by itself."""
        default = 443 if self.url.secure else 80
        return self.bracketed if self.url.port == default else self.authority


def target_of(passing: Directive, path: str, scope: Scope, blocks: Blocks, complaints: Complaints) -> Target:
    """The target of a location with this path prefix.  Raises NotCarried."""
    given = passing.args[0] if passing.args else ""
    text = expanded(given, scope.constants())
    stripped = text.removesuffix("$request_uri").removesuffix("${request_uri}")
    if variables := unknown(stripped):
        names = ", ".join(dict.fromkeys(variables))
        raise _refused(
            passing, complaints, f"the target {given} depends on {names} at run time: write a router"
        )
    found = _URL.fullmatch(stripped)
    if found is None:
        raise _refused(passing, complaints, f"{given} is not an http:// or https:// URL")
    scheme, authority, uri = found.groups()
    if authority == "unix:":
        raise _refused(passing, complaints, "esxiproxy connects to upstreams by TCP, not by unix sockets")
    changed = uri if stripped == text else uri or None  # with $request_uri nothing is replaced
    if changed and (changed != path or stripped != text):
        text = f"{path} is replaced by {changed}: esxiproxy forwards the client's path byte for byte"
        raise _refused(passing, complaints, text)
    secure = scheme.lower() == "https"
    if authority in blocks:
        return _of_block(blocks[authority], secure, complaints)
    url = _url(passing, secure, authority, complaints)
    host = _unported(authority) if url.port == (443 if secure else 80) else authority
    return Target(url, host)


def _of_block(block: Directive, secure: bool, complaints: Complaints) -> Target:
    """The one server of an upstream block, or the first of several."""
    for directive in block.block or ():
        if directive.name.startswith(_CODE):
            raise _refused(
                directive, complaints, f"the target of {block.args[0]} is chosen at run time: write a router"
            )
    servers = [directive for directive in block.block or () if directive.name == "server" and directive.args]
    usable = [server for server in servers if not {"down", "backup"} & set(server.args)]
    if not usable:
        raise _refused(block, complaints, f"{block.args[0]} has no server that is up")
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
        raise _refused(chosen, complaints, "esxiproxy connects to upstreams by TCP, not by unix sockets")
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
        raise _refused(directive, complaints, str(error))


def _refused(directive: Directive, complaints: Complaints, text: str) -> NotCarried:
    complaints.add(directive, text)
    return NotCarried(text)


def _unported(authority: str) -> str:
    return re.sub(r":\d+\Z", "", authority)

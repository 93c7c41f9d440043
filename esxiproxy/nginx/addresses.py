"""The addresses of the hosts in a list, from the values of a variable."""

from __future__ import annotations

from ipaddress import ip_address

from esxiproxy.core.networks import embedded, is_special
from esxiproxy.nginx.hosts_target import HostsTarget
from esxiproxy.nginx.scope import unknown_variables
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.target import URL, Blocks, NotConverted, Target, target_of


class AddressReader:
    """A reader of addresses; ``blocks`` are the ``upstream`` blocks, whose names may be values."""

    def __init__(self, blocks: Blocks, complaints: Complaints) -> None:
        self._blocks = blocks
        self._complaints = complaints
        self._servers: dict[tuple[str, bool], Target | None] = {}

    def address(self, entry: Directive, target: HostsTarget, value: str) -> str | None:
        """Return the address for this value of the variable; None, and a complaint, if it has none."""
        text = target.url(value)
        found = URL.fullmatch(text)
        problem = None
        if variables := unknown_variables(value):
            problem = f"the address depends on {', '.join(variables)} at run time"
        elif "@" in text:
            problem = "the address has a user or a password, and a host takes none"
        elif found is None:
            problem = f"{text} is not an http:// or https:// URL"
        elif found[2] == "unix:":
            problem = "esxiproxy connects to upstreams by TCP, not by unix sockets"
        elif found[3]:
            problem = f"{text} has a path, and esxiproxy forwards the client's"
        if problem or found is None:
            self._complaints.add(entry, f"{problem}: the host is not in the list")
            return None
        server = self._server(entry, found[1].lower() == "https", found[2])
        if server is None:
            return None
        self._check_network(entry, server)
        return server.authority if server.secure else f"ws://{server.authority}"

    def _server(self, entry: Directive, secure: bool, authority: str) -> Target | None:
        key = (authority, secure)
        if authority in self._blocks and key in self._servers:
            return self._servers[key]
        try:
            found = target_of(entry, secure, authority, self._blocks, self._complaints)
        except NotConverted:
            found = None
        if authority in self._blocks:
            self._servers[key] = found
        return found

    def _check_network(self, entry: Directive, server: Target) -> None:
        try:
            special = is_special(embedded(ip_address(server.url.host)))
        except ValueError:
            return
        if special:
            text = (
                f"{server.url.host} is dialled only if the router has allow, with the networks of all hosts"
            )
            self._complaints.add(entry, text)

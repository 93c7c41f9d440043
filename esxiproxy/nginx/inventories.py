"""The conversion of a ``proxy_pass`` with a variable host to an inventory: a list of hosts by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from esxiproxy.core.networks import embedded, is_special
from esxiproxy.nginx.captures import PathPattern
from esxiproxy.nginx.hosts_target import HostsTarget, hosts_target, uri_problem
from esxiproxy.nginx.maps import HostMap, Maps, is_answered
from esxiproxy.nginx.places import HOST_VARIABLES, Place, find_place, frequent_domain
from esxiproxy.nginx.scope import Scope, expand, pieces
from esxiproxy.nginx.sections import OutputSection
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.target import URL, Blocks, NotConverted, Target, refuse, target_of

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_LONGEST_NAME = 253
_PORT = re.compile(r":[0-9]{1,5}\Z")
_READABLE = "the query, a cookie, the Host field or the path"


@dataclass(frozen=True, slots=True)
class Inventory:
    """A list of hosts, names with addresses, and the place of a host's name in a request.

    The list is empty if it has to be written.  ``name`` is the wish for the router's name, ``rule`` the
    expression that names match in nginx, and ``example`` the address of a host called NAME.
    """

    directive: Directive
    name: str
    place: Place
    hosts: tuple[tuple[str, str], ...]
    example: str

    @property
    def secure(self) -> bool:
        """Whether a host speaks TLS, or may do so."""
        addresses = [address for _, address in self.hosts] or [self.example]
        return not all(address.startswith("ws://") for address in addresses)

    @property
    def rule(self) -> str:
        """The regular expression that names match in nginx; empty if they match none."""
        return self.place.rule.text if self.place.rule else ""

    @property
    def meaning(self) -> tuple[object, ...]:
        """Everything that another inventory would have to share to be the same."""
        return (self.place.locate, self.hosts, () if self.hosts else (self.rule, self.example))


@dataclass(frozen=True, slots=True)
class LocationTarget:
    """The upstream of a location, or the inventory whose hosts have this upstream as their template."""

    upstream: OutputSection
    inventory: Inventory | None = None

    @property
    def meaning(self) -> tuple[object, ...]:
        """Everything that another destination would have to share to be the same."""
        return (self.upstream.meaning, self.inventory.meaning if self.inventory else None)

    @property
    def text(self) -> str:
        """The destination in complaints."""
        return self.upstream.value("url") if self.inventory is None else "the hosts of its list"


class InventoryFinder:
    """A finder of inventories in ``proxy_pass`` directives; ``blocks`` are the ``upstream`` blocks."""

    def __init__(self, maps: Maps, blocks: Blocks, complaints: Complaints) -> None:
        self._maps = maps
        self._blocks = blocks
        self._complaints = complaints
        self._found: dict[tuple[object, ...], Inventory] = {}
        self._servers: dict[tuple[str, bool], Target | None] = {}

    def variables(self, text: str, scope: Scope) -> frozenset[str]:
        """Return the variables in a text, and those that their maps depend on."""
        used = {piece.text for piece in pieces(expand(text, scope.variables())) if piece.is_variable}
        return frozenset(used | {self._maps[name].source for name in used if name in self._maps})

    def is_answered(self, directive: Directive, variables: frozenset[str]) -> bool:
        """Return whether a router refuses the same requests as this ``if``, which names one of these."""
        return is_answered(directive, self._maps, variables)

    def find(
        self, passing: Directive, path: str, scope: Scope, pattern: PathPattern | None
    ) -> tuple[HostsTarget, Inventory] | None:
        """Return the target and its inventory; None if the target does not depend on a name in the request.

        Raises NotConverted.
        """
        target = hosts_target(expand(passing.args[0], scope.variables()), pattern)
        if target is None:
            return None
        block = self._maps.get(target.variable)
        source = target.variable if block is None else block.source
        place = find_place(source, scope, pattern)
        if place is None and block is not None and source in HOST_VARIABLES:
            suffix = frequent_domain(_host(name) for name, _, _ in block.entries(Complaints()))
            place = Place(f"host:{{host}}.{suffix}") if suffix else None
        if place is None and block is not None:
            text = (
                f"the target depends on ${target.variable}, whose map has no text of {_READABLE} by which a "
            )
            raise refuse(passing, self._complaints, text + "router can find a host: write a router")
        if place is None:
            return None
        if pattern is not None and not place.in_path:
            text = "a regular expression cannot be converted: paths accepts only prefixes"
            raise refuse(passing, self._complaints, text)
        if problem := uri_problem(target, path, pattern):
            raise refuse(passing, self._complaints, problem)
        return target, self._inventory(passing, target, block, place, self._refused(scope, target.variable))

    def _refused(self, scope: Scope, variable: str) -> frozenset[str]:
        """Return the values of a variable that an ``if`` refuses."""
        return frozenset(
            directive.args[2]
            for block in scope.chain()
            for directive in block.own("if")
            if len(directive.args) == 3 and self.is_answered(directive, frozenset({variable}))
        )

    def _inventory(
        self,
        passing: Directive,
        target: HostsTarget,
        block: HostMap | None,
        place: Place,
        refused: frozenset[str],
    ) -> Inventory:
        rule = place.rule.text if place.rule else ""
        key = (target.scheme, target.authority, block.variable if block else "", place.locate, rule, refused)
        if key not in self._found:
            if block is not None:
                self._check_default(block, refused)
                hosts = tuple(self._mapped(target, block, place, refused))
            else:
                names = place.rule.names if place.rule else ()
                hosts = tuple(self._named(passing, target, names))
            name = target.variable if block else "hosts"
            self._found[key] = Inventory(passing, name, place, hosts, _example(target, block is not None))
        return self._found[key]

    def _check_default(self, block: HostMap, refused: frozenset[str]) -> None:
        default = block.default
        if default is not None and default.args[:1] not in (("",), ()) and default.args[0] not in refused:
            self._complaints.add(default, "a router has no default: names that are not in its list get a 404")

    def _mapped(
        self, target: HostsTarget, block: HostMap, place: Place, refused: frozenset[str]
    ) -> Iterator[tuple[str, str]]:
        """Yield the hosts of a map, and complain of entries that are left out."""
        known: dict[str, str] = {}
        for text, value, entry in block.entries(self._complaints):
            if value in refused:
                continue
            name = self._name(text, block, place, entry)
            address = None if name is None else self._address(entry, target, value)
            if name is None or address is None:
                continue
            if known.setdefault(name, address) != address:
                self._complaints.add(entry, f"the name {name} has the address {known[name]} already")
        yield from known.items()

    def _named(
        self, passing: Directive, target: HostsTarget, names: tuple[str, ...]
    ) -> Iterator[tuple[str, str]]:
        """Yield the hosts that an expression lists."""
        for name in names:
            if not _NAME.fullmatch(name):
                self._complaints.add(passing, f"{name!r} is no name of a host in a list")
            elif address := self._address(passing, target, name):
                yield name, address

    def _name(self, text: str, block: HostMap, place: Place, entry: Directive) -> str | None:
        """Return the name in the list for a text of the map; None, and a complaint, if it has none."""
        name = text.removesuffix(".")
        if block.source in HOST_VARIABLES:
            name, _, suffix = _host(text).partition(".")
            if place.locate != f"host:{{host}}.{suffix}":
                self._complaints.add(entry, f"is not under {place.locate.partition('.')[2]}: write a router")
                return None
        if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            self._complaints.add(entry, "is no name of a host in a list: letters, digits, '-', '_' and dots")
            return None
        if place.rule is not None and not place.rule.accepts(name):
            self._complaints.add(entry, f"nginx never looks it up, since {place.rule.text} does not match it")
            return None
        return name

    def _address(self, entry: Directive, target: HostsTarget, value: str) -> str | None:
        """Return the address for this value of the variable; None, and a complaint, if it has none."""
        text = target.url(value)
        found = URL.fullmatch(text)
        problem = None
        if variables := [str(piece) for piece in pieces(value) if piece.is_variable]:
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


def _host(text: str) -> str:
    """Return the host of a Host field, without port and final dot."""
    return _PORT.sub("", text).removesuffix(".")


def _example(target: HostsTarget, is_mapped: bool) -> str:
    text = "ADDRESS" if is_mapped else "NAME"
    url = target.url(text)
    return url.removeprefix("https://").replace("http://", "ws://")

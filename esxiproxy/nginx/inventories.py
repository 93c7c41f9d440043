"""The conversion of a ``proxy_pass`` with a variable host to an inventory: a list of hosts by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from esxiproxy.nginx.addresses import AddressReader
from esxiproxy.nginx.captures import PathPattern
from esxiproxy.nginx.fields import sends_own_host
from esxiproxy.nginx.hosts_target import HostsTarget, hosts_target, uri_problem
from esxiproxy.nginx.maps import HostMap, Maps, is_answered
from esxiproxy.nginx.places import HOST_VARIABLES, Place, find_place, frequent_domain
from esxiproxy.nginx.scope import Scope, expand, pieces
from esxiproxy.nginx.sections import OutputSection
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.target import Blocks, refuse

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_LONGEST_NAME = 253
_PORT = re.compile(r":[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class FoundInventory:
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
    inventory: FoundInventory | None = None

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
        self._found: dict[tuple[object, ...], FoundInventory] = {}
        self._domains: dict[str, str] = {}
        self._addresses = AddressReader(blocks, complaints)

    def variables(self, text: str, scope: Scope) -> frozenset[str]:
        """Return the variables in a text, and those that their maps depend on."""
        used = {piece.text for piece in pieces(expand(text, scope.variables())) if piece.is_variable}
        return frozenset(used | {self._maps[name].source for name in used if name in self._maps})

    def host_variables(self, passing: Directive, scope: Scope, pattern: PathPattern | None) -> frozenset[str]:
        """Return the variables by which a ``proxy_pass`` finds the host."""
        target = hosts_target(expand(passing.args[0], scope.variables()), pattern)
        return frozenset() if target is None else self.variables(f"${{{target.variable}}}", scope)

    def is_answered(self, directive: Directive, variables: frozenset[str]) -> bool:
        """Return whether a router that finds the host by these refuses the same requests as this ``if``."""
        return is_answered(directive, self._maps, variables)

    def find(
        self, passing: Directive, path: str, scope: Scope, pattern: PathPattern | None
    ) -> tuple[HostsTarget, FoundInventory] | None:
        """Return the target and its inventory; None if the target does not depend on a name in the request.

        Raises NotConverted.
        """
        target = hosts_target(expand(passing.args[0], scope.variables()), pattern)
        if target is None:
            return None
        block = self._maps.get(target.variable)
        if block is None:
            place = find_place(target.variable, scope, pattern)
        else:
            place = self._place_of(passing, block, scope, pattern)
        if place is None:
            return None
        if pattern is not None and not place.in_path:
            text = "a regular expression cannot be converted: paths accepts only prefixes"
            raise refuse(passing, self._complaints, text)
        if problem := uri_problem(target, path, pattern):
            raise refuse(passing, self._complaints, problem)
        return target, self._inventory(passing, target, block, place, scope)

    def _place_of(
        self, passing: Directive, block: HostMap, scope: Scope, pattern: PathPattern | None
    ) -> Place:
        """Return the place that a map reads.  Raise NotConverted if no router can read it."""
        if block.source in HOST_VARIABLES:
            if block.variable not in self._domains:
                names = [_host(text) for text, _, _ in block.entries(Complaints())]
                self._domains[block.variable] = frequent_domain(names)
            if domain := self._domains[block.variable]:
                return Place(f"host:{{host}}.{domain}")
            text = f"the map of ${block.variable} has no host with a domain that can be converted"
            raise refuse(passing, self._complaints, f"{text}: write a router")
        place = find_place(block.source, scope, pattern)
        if place is None:
            text = f"the target depends on {block.directive.args[0]} through the map of ${block.variable}"
            reason = "a router finds hosts by the query, a cookie, the Host field or the path: write a router"
            raise refuse(passing, self._complaints, f"{text}, and {reason}")
        return place

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
        scope: Scope,
    ) -> FoundInventory:
        refused = self._refused(scope, target.variable)
        key = (target.scheme, target.authority, block is None, place, refused, _own_names(scope))
        if key not in self._found:
            if block is not None:
                self._check_default(block, refused)
                hosts = tuple(self._mapped(target, block, place, refused))
            else:
                names = place.rule.names if place.rule else ()
                hosts = tuple(self._named(passing, target, names))
            name = target.variable if block else "hosts"
            self._found[key] = FoundInventory(
                passing, name, place, hosts, _example(target, block is not None)
            )
            if block is not None:
                self._check_blocks(passing, block, scope)
        return self._found[key]

    def _check_default(self, block: HostMap, refused: frozenset[str]) -> None:
        default = block.default
        if default is not None and default.args[:1] not in (("",), ()) and default.args[0] not in refused:
            self._complaints.add(default, "a router has no default: names that are not in its list get a 404")

    def _check_blocks(self, passing: Directive, block: HostMap, scope: Scope) -> None:
        """Complain if nginx uses the name of an ``upstream`` block where the proxy uses the host's own."""
        names = [entry.args[0] for entry in block.directive.block or () if entry.args]
        first = next((name for name in names if name in self._blocks), None)
        if first is not None and (uses := _own_names(scope)):
            text = f"nginx uses the name of an upstream block, such as {first}, in {' and '.join(uses)}"
            self._complaints.add(passing, f"{text}, and esxiproxy the host's own")

    def _mapped(
        self, target: HostsTarget, block: HostMap, place: Place, refused: frozenset[str]
    ) -> Iterator[tuple[str, str]]:
        """Yield the hosts of a map, and complain of entries that are left out."""
        known: dict[str, str] = {}
        for text, value, entry in block.entries(self._complaints):
            if value in refused:
                continue
            name = self._name(text, block, place, entry)
            address = None if name is None else self._addresses.address(entry, target, value)
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
            elif address := self._addresses.address(passing, target, name):
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


def _own_names(scope: Scope) -> tuple[str, ...]:
    """Return where nginx uses the name of the host in ``proxy_pass``."""
    found = ["the Host field"] if sends_own_host(scope) else []
    if scope.value("proxy_ssl_verify") == "on" and not scope.value("proxy_ssl_name"):
        found.append("the certificate")
    return tuple(found)


def _host(text: str) -> str:
    """Return the host of a Host field, without port and final dot."""
    return _PORT.sub("", text).removesuffix(".")


def _example(target: HostsTarget, is_mapped: bool) -> str:
    text = "ADDRESS" if is_mapped else "NAME"
    url = target.url(text)
    return url.removeprefix("https://").replace("http://", "ws://")

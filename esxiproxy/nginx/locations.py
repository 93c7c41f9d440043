"""The locations of a server: which are forwarded, to which upstream, and which would lose a restriction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from esxiproxy.core.config.errors import BadValue
from esxiproxy.nginx.captures import PathPattern, path_pattern
from esxiproxy.nginx.fields import forwards_upgrade
from esxiproxy.nginx.inventories import LocationTarget
from esxiproxy.nginx.paths import lies_under, prefix_problem
from esxiproxy.nginx.scope import Scope
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.target import NotConverted
from esxiproxy.nginx.upstreams import UpstreamWriter
from esxiproxy.nginx.vocabulary import restriction

_SERVED = frozenset({"root", "alias", "try_files", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass"})


_GROUP_NAME = re.compile(r"\(\?P?[<']([A-Za-z_][A-Za-z0-9_]{0,63})[>']")
_NO_UPGRADE = "nginx forwards no WebSocket here (no Upgrade field), and esxiproxy does"


@dataclass(frozen=True, slots=True)
class Location:
    """One location: ``modifier`` is empty, ``=``, ``~``, ``~*`` or ``^~``.

    ``is_nested`` is whether it stands in another location.
    """

    directive: Directive
    scope: Scope
    modifier: str
    path: str
    is_nested: bool = False

    @property
    def is_prefix(self) -> bool:
        """Whether the location matches every path that begins with its own."""
        return self.modifier in ("", "^~")

    @property
    def is_expression(self) -> bool:
        """Whether the location matches paths by a regular expression."""
        return self.modifier.startswith("~")

    @property
    def groups(self) -> frozenset[str]:
        """The variables that the regular expression sets."""
        names = _GROUP_NAME.findall(self.path) if self.is_expression else []
        return frozenset([*names, *(str(number) for number in range(1, 10) if self.is_expression)])


@dataclass(frozen=True, slots=True)
class ForwardedLocation:
    """A location that is forwarded, with the path prefix in ``paths`` and its destination."""

    location: Location
    prefix: str
    destination: LocationTarget

    def may_match(self, other: Location) -> bool:
        """Return whether ``paths = prefix`` can match a request that nginx gives to the other location."""
        if other.is_expression:
            return True
        above = self.prefix.startswith(other.path)
        if above and not self.location.is_nested:
            # The longest prefix gets a request, unless there is an expression and the prefix has no ^~.
            # A path that ends where the host's name begins names no host.
            if self.location.is_expression:
                return other.modifier == "^~"
            if other.path != self.prefix and other.is_prefix:
                return False
        return lies_under(other.path, self.prefix) or (other.is_prefix and above)


@dataclass(frozen=True, slots=True)
class ForwardedLocations:
    """The path prefixes that a server forwards (none means every path), and their destination."""

    prefixes: tuple[str, ...]
    destination: LocationTarget
    comments: tuple[str, ...]


def find_locations(scope: Scope, is_nested: bool = False) -> Iterator[Location]:
    """Yield every location in a block and in its locations, except named ones (``@NAME``)."""
    for directive in scope.own("location"):
        if not directive.args or directive.args[-1].startswith("@"):
            continue
        *modifier, path = directive.args
        inner = Scope(directive.block or (), scope)
        sign = modifier[0] if modifier else ""
        for mark in ("~*", "^~", "~", "="):  # nginx accepts them without a space as well
            if not sign and path.startswith(mark):
                sign, path = mark, path[len(mark) :]
        yield Location(directive, inner, sign, path, is_nested)
        yield from find_locations(inner, is_nested=True)


def convert_locations(
    server: Directive, scope: Scope, writer: UpstreamWriter, complaints: Complaints
) -> ForwardedLocations | None:
    """Return what can be converted of a server's locations; None if the server has to be omitted."""
    locations = list(find_locations(scope))
    leading = [found for location in locations if (found := _forwarded(location, writer, complaints))]
    if not leading:
        if not any(location.scope.own("proxy_pass") for location in locations):
            complaints.add(server, "no location forwards with proxy_pass: the server is omitted")
        return None
    first = next((found for found in leading if found.location.path == "/"), leading[0])
    meaning = first.destination.meaning
    kept = [found for found in leading if found.destination.meaning == meaning]
    for found in leading:
        if found.destination.meaning != meaning:
            there = f"line {first.location.directive.line}"
            complaints.add(
                found.location.directive,
                f"{found.location.path} is not forwarded to the upstream of {there} with the same settings, "
                "and a listener has one upstream",
            )
    among = [found.location for found in kept]
    if not _is_safe(scope, [location for location in locations if location not in among], kept, complaints):
        return None
    comments = () if all(forwards_upgrade(location.scope) for location in among) else (_NO_UPGRADE,)
    prefixes = tuple(dict.fromkeys(found.prefix for found in kept))
    if "/" in prefixes:
        return ForwardedLocations((), first.destination, comments)
    _complain_of_the_rest(scope, kept, complaints)
    return ForwardedLocations(prefixes, first.destination, comments)


def _forwarded(
    location: Location, writer: UpstreamWriter, complaints: Complaints
) -> ForwardedLocation | None:
    """Return a location with its destination; None if it has none or cannot be converted."""
    passing = location.scope.own("proxy_pass")
    if not passing:
        return None
    finder, pattern = writer.inventories, None
    try:
        if not location.is_prefix:
            pattern = _pattern(location, finder.variables(passing[-1].args[0], location.scope))
        elif problem := prefix_problem(location.path):
            raise BadValue(problem)
    except BadValue as error:
        complaints.add(location.directive, str(error))
        return None
    prefix = location.path if pattern is None else pattern.prefix
    for directive in location.scope.own("try_files"):
        text = f"try_files selects the requests that nginx forwards: location {location.path} is omitted"
        complaints.add(directive, text)
        return None
    variables = finder.host_variables(passing[-1], location.scope, pattern)
    for block in location.scope.chain():
        for directive in block.directives:
            why = restriction(directive)
            if why and not finder.is_answered(directive, variables):
                complaints.add(directive, f"{why}: location {location.path} is omitted")
                return None
    try:
        destination = writer.destination(passing[-1], location.path, location.scope, pattern)
    except NotConverted:
        return None
    if location.modifier == "~*":
        complaints.add(location.directive, f"paths that begin with {prefix} in another case get a 404")
    return ForwardedLocation(location, prefix, destination)


def _pattern(location: Location, variables: frozenset[str]) -> PathPattern:
    """Return the pattern of a location whose path names the host.  Raise BadValue if it does not."""
    if location.modifier == "=" or not variables & location.groups:
        kind = "an exact path" if location.modifier == "=" else "a regular expression"
        raise BadValue(f"{kind} cannot be converted: paths accepts only prefixes")
    return path_pattern(location.path)


def _is_safe(
    scope: Scope, others: Sequence[Location], kept: Sequence[ForwardedLocation], complaints: Complaints
) -> bool:
    """Return whether no other location's requests would be forwarded; complain of those that would."""
    pages = {directive.args[-1] for directive in scope.own("error_page") if directive.args}
    safe = True
    for location in others:
        if location.modifier == "=" and location.path in pages:
            continue  # nginx's own error page, which clients do not request
        under = next((found.prefix for found in kept if found.may_match(location)), None)
        if under is None:
            if not location.scope.own("proxy_pass") and not _is_404(location):
                complaints.add(location.directive, f"{location.path} is not forwarded: requests get a 404")
            continue
        safe = False
        complaints.add(
            location.directive,
            f"{location.path} lies under {under} and would be forwarded to the same upstream: the server "
            "is omitted",
        )
    return safe


def _is_404(location: Location) -> bool:
    return [directive.text for directive in location.scope.directives] == ["return 404"]


def _complain_of_the_rest(scope: Scope, kept: Sequence[ForwardedLocation], complaints: Complaints) -> None:
    for found in kept:
        if not found.prefix.endswith("/"):
            text = f"esxiproxy forwards {found.prefix} and the paths below it, not {found.prefix}..."
            complaints.add(found.location.directive, text)
    for directive in scope.directives:
        if directive.name in _SERVED:
            complaints.add(directive, "esxiproxy serves no files: other requests get a 404")

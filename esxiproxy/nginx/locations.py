"""The locations of a server: which are forwarded, to which upstream, and which would lose a restriction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from esxiproxy.nginx.fields import forwards_upgrade
from esxiproxy.nginx.paths import lies_under, prefix_problem
from esxiproxy.nginx.scope import Scope
from esxiproxy.nginx.sections import OutputSection
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.target import NotConverted
from esxiproxy.nginx.upstreams import UpstreamWriter
from esxiproxy.nginx.vocabulary import restriction

_SERVED = frozenset({"root", "alias", "try_files", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass"})


@dataclass(frozen=True, slots=True)
class Location:
    """One location: ``modifier`` is empty, ``=``, ``~``, ``~*`` or ``^~``."""

    directive: Directive
    scope: Scope
    modifier: str
    path: str

    @property
    def is_prefix(self) -> bool:
        """Whether the location matches every path that begins with its own."""
        return self.modifier in ("", "^~")

    def may_be_under(self, prefix: str) -> bool:
        """Return whether ``paths = prefix`` can match a request that nginx gives to this location."""
        if self.modifier.startswith("~"):
            return True
        return lies_under(self.path, prefix) or (self.is_prefix and prefix.startswith(self.path))


@dataclass(frozen=True, slots=True)
class ForwardedLocations:
    """The path prefixes that a server forwards (none means every path), and their upstream."""

    prefixes: tuple[str, ...]
    upstream: OutputSection
    comments: tuple[str, ...]


def find_locations(scope: Scope) -> Iterator[Location]:
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
        yield Location(directive, inner, sign, path)
        yield from find_locations(inner)


def convert_locations(
    server: Directive, scope: Scope, writer: UpstreamWriter, complaints: Complaints
) -> ForwardedLocations | None:
    """Return what can be converted of a server's locations; None if the server has to be omitted."""
    locations = list(find_locations(scope))
    leading = [
        (location, found) for location in locations if (found := _upstream(location, writer, complaints))
    ]
    if not leading:
        if not any(location.scope.own("proxy_pass") for location in locations):
            complaints.add(server, "no location forwards with proxy_pass: the server is omitted")
        return None
    first, upstream = next((pair for pair in leading if pair[0].path == "/"), leading[0])
    kept = [location for location, found in leading if found.meaning == upstream.meaning]
    for location, found in leading:
        if found.meaning != upstream.meaning:
            there = f"line {first.directive.line}"
            complaints.add(
                location.directive,
                f"{location.path} is not forwarded to the upstream of {there} with the same settings, and "
                "a listener has one upstream",
            )
    prefixes = [location.path for location in kept]
    others = [location for location in locations if location not in kept]
    if not _is_safe(scope, others, prefixes, complaints):
        return None
    comments = () if all(forwards_upgrade(location.scope) for location in kept) else (_NO_UPGRADE,)
    if "/" in prefixes:
        return ForwardedLocations((), upstream, comments)
    _complain_of_the_rest(scope, kept, complaints)
    return ForwardedLocations(tuple(dict.fromkeys(prefixes)), upstream, comments)


_NO_UPGRADE = "nginx forwards no WebSocket here (no Upgrade field), and esxiproxy does"


def _upstream(location: Location, writer: UpstreamWriter, complaints: Complaints) -> OutputSection | None:
    """Return the upstream of a location; None if it has none or cannot be converted."""
    passing = location.scope.own("proxy_pass")
    if not passing:
        return None
    if not location.is_prefix:
        kind = "an exact path" if location.modifier == "=" else "a regular expression"
        complaints.add(location.directive, f"{kind} cannot be converted: paths accepts only prefixes")
        return None
    if problem := prefix_problem(location.path):
        complaints.add(location.directive, problem)
        return None
    for directive in location.scope.own("try_files"):
        text = f"try_files selects the requests that nginx forwards: location {location.path} is omitted"
        complaints.add(directive, text)
        return None
    for block in location.scope.chain():
        for directive in block.directives:
            if why := restriction(directive):
                complaints.add(directive, f"{why}: location {location.path} is omitted")
                return None
    try:
        return writer.section(passing[-1], location.path, location.scope)
    except NotConverted:
        return None


def _is_safe(scope: Scope, others: Sequence[Location], prefixes: list[str], complaints: Complaints) -> bool:
    """Return whether no other location's requests would be forwarded; complain of those that would."""
    pages = {directive.args[-1] for directive in scope.own("error_page") if directive.args}
    safe = True
    for location in others:
        if location.modifier == "=" and location.path in pages:
            continue  # nginx's own error page, which clients do not request
        under = next((prefix for prefix in prefixes if location.may_be_under(prefix)), None)
        if under is None:
            if not location.scope.own("proxy_pass"):
                complaints.add(location.directive, f"{location.path} is not forwarded: requests get a 404")
            continue
        safe = False
        complaints.add(
            location.directive,
            f"{location.path} lies under {under} and would be forwarded to the same upstream: the server "
            "is omitted",
        )
    return safe


def _complain_of_the_rest(scope: Scope, kept: Sequence[Location], complaints: Complaints) -> None:
    for location in kept:
        if not location.path.endswith("/"):
            text = f"esxiproxy forwards {location.path} and the paths below it, not {location.path}..."
            complaints.add(location.directive, text)
    for directive in scope.directives:
        if directive.name in _SERVED:
            complaints.add(directive, "esxiproxy serves no files: other requests get a 404")

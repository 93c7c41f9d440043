"""A router that selects an upstream of the configuration by host, server name and path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from zope.interface import implementer

from esxiproxy.core.config.consistency import target_conflicts, target_fault
from esxiproxy.core.config.errors import shown
from esxiproxy.core.config.values import name, paths
from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.http.paths import ambiguous, is_under
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.interfaces import IRouter
from esxiproxy.plugins import NAME, ROUTER, BadValue, Context, Key, Names, SectionValues, plain

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?|\*")


@dataclass(frozen=True, slots=True)
class Match:
    """A line of a router ``static``: its conditions, and the upstream of requests that meet all of them.

    ``host`` and ``server_name`` are labels of a name, in which ``*`` stands for one label.  An empty
    condition is always met.
    """

    upstream: str
    host: tuple[str, ...] = ()
    server_name: tuple[str, ...] = ()
    path: bytes = b""

    def fits(self, request: Request, path: bytes) -> bool:
        """Return whether a request meets all conditions.  ``path`` is the path of its target."""
        return (
            (not self.host or _fits(self.host, request.host))
            and (not self.server_name or _fits(self.server_name, _plain(request.server_name or "")))
            and (not self.path or is_under(path, self.path))
        )


@implementer(IRouter)
class StaticRouter:
    """A router that sends sessions to upstreams of the configuration, with the target of the client.

    The first of ``matches`` that fits a request wins, and its upstream is found in ``upstreams``.
    ``upstream`` gets all other sessions; without it they are refused with RouteNotFound.
    """

    ambient = False
    secrets = ()
    consumed_cookies: frozenset[bytes] = frozenset()
    upgrades_only = False

    def __init__(
        self,
        upstream: Upstream | None,
        matches: Sequence[Match] = (),
        upstreams: dict[str, Upstream] | None = None,
    ) -> None:
        self._route = None if upstream is None else Route.to(upstream)
        self._matches = [(match, Route.to((upstreams or {})[match.upstream])) for match in matches]
        self.never_refuses = upstream is not None and not matches
        self._has_paths = any(match.path for match in matches)

    async def route(self, request: Request, principal: Principal) -> Route:
        if self._matches and (found := self._matching(request)) is not None:
            return found
        if self._route is None:
            raise RouteNotFound("no upstream is configured for this host and path")
        return self._route

    def _matching(self, request: Request) -> Route | None:
        path = request.head.target.partition(b"?")[0]
        if self._has_paths and ambiguous(path):
            raise RouteNotFound("the path is ambiguous, and the upstream depends on it")
        return next((route for match, route in self._matches if match.fits(request, path)), None)


class StaticType:
    """The type ``static``."""

    name = "static"
    help = "Sends sessions to upstreams of the configuration, by host, server name and path."
    keys = (
        Key("upstream", ROUTER, NAME, None, "NAME of the upstream of all sessions that no line matches."),
        Key(
            "match.*",
            ROUTER,
            plain("conditions `->` name", lambda text: _match(text)),
            None,
            "Conditions and the NAME of an upstream, as in `match.lab = host:*.lab.example.com path:/ticket "
            "-> lab`. Conditions are `host:NAME`, `sni:NAME` and `path:PREFIX`, and `*` stands for one label "
            "of a name. All conditions of a line have to hold. The first line that fits wins.",
        ),
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield an upstream that does not exist, and a section without any."""
        yield from target_conflicts("upstream", settings, names)
        for key, match in settings.family("match").items():
            if (text := target_fault(match.upstream, names)) is not None:
                yield f"match.{key}", text
        if "upstream" not in settings.present and not any(
            key.startswith("match.") for key in settings.present
        ):
            yield "upstream", "missing: name an upstream here, or in lines match.NAME"

    def create(self, settings: SectionValues, context: Context) -> StaticRouter:
        """Return the router."""
        upstream = settings["upstream"]
        return StaticRouter(
            None if upstream is None else context.upstreams[upstream],
            tuple(settings.family("match").values()),
            dict(context.upstreams),
        )


def _match(text: str) -> Match:
    """Return the match of a line ``CONDITION ... -> UPSTREAM``.  Raises BadValue."""
    conditions, arrow, upstream = (part.strip() for part in text.partition("->"))
    if not arrow or not conditions or not upstream:
        raise BadValue(
            f"{shown(text)} is no match: write CONDITION -> UPSTREAM, as in host:*.example.com -> esxi"
        )
    match, seen = Match(name(upstream)), set()
    for condition in conditions.split():
        kind, _colon, value = condition.partition(":")
        if kind in seen:
            raise BadValue(f"{kind}: is given twice in one line, and both would have to hold")
        seen.add(kind)
        if kind == "host":
            match = replace(match, host=_labels(value))
        elif kind == "sni":
            match = replace(match, server_name=_labels(value))
        elif kind == "path" and "," not in value:
            match = replace(match, path=paths(value)[0])
        else:
            raise BadValue(f"{shown(condition)} is no condition: write host:NAME, sni:NAME or path:PREFIX")
    return match


def _labels(pattern: str) -> tuple[str, ...]:
    labels = tuple(_plain(pattern).split("."))
    if not pattern or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadValue(
            f"{shown(pattern)} is no name: write host.example.com, or *.example.com, where * is one label"
        )
    return labels


def _fits(pattern: tuple[str, ...], host: str) -> bool:
    labels = host.split(".")
    return (
        len(labels) == len(pattern)
        and all(wanted in ("*", label) for wanted, label in zip(pattern, labels, strict=True))
        and all(labels)
    )


def _plain(name: str) -> str:
    """Return a name in lower case without its final dot."""
    return name.lower().removesuffix(".")


TYPE = StaticType()

"""A router that asks a service by HTTP for the host of a token."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from zope.interface import implementer

from esxiproxy.core.config.consistency import template_conflicts
from esxiproxy.core.config.key import CERTIFICATES
from esxiproxy.core.config.router_keys import ALLOW, DENY, TEMPLATE_KEY, networks_of
from esxiproxy.core.config.url import page_origin
from esxiproxy.core.errors import RouteNotFound, ServiceUnavailable
from esxiproxy.core.http.request import Request
from esxiproxy.core.locate import Locate, locate_type
from esxiproxy.core.networks import Networks
from esxiproxy.core.resolver_answer import MAX_ANSWER, ResolvedHost, parse_resolver_answer
from esxiproxy.core.routing import Destination, Identity, Principal, Route, TCPAddress, Upstream, Verify
from esxiproxy.interfaces import Answer, IRouter
from esxiproxy.plugins import ROUTER, BadValue, Context, Key, Names, SectionValues, plain

MAX_TOKEN = 4 * 1024
"""Maximum size of a token in bytes."""
MAX_CACHED = 10_000
"""Maximum number of answers that are cached."""
MAX_AGE = 60.0
"""Seconds for which an answer is cached at most."""

_URL = re.compile(r"(?i)(https?)://([^/?#\s]*)((?:[/?#][!-~]*)?)")
_PLACE = "{token}"
_NO_TOKEN = (404, 410)
_FIELDS = ((b"Accept", b"application/json"),)


@dataclass(frozen=True, slots=True)
class ResolverURL:
    """The URL of a service: its origin, and the parts of its target before and behind the token.

    Nothing of the target is shown, since it may have a password of the service.
    """

    secure: bool
    origin: str
    before: str = field(repr=False)
    behind: str = field(repr=False)

    def of(self, token: str) -> str:
        """Return the URL for a token.  Raise RouteNotFound for a token that changes the path."""
        target = f"{self.before}{quote(token, safe='')}{self.behind}"
        if not {".", ".."}.isdisjoint(target.partition("?")[0].split("/")):
            raise RouteNotFound("the token is a dot segment of a path")
        return self.origin + target


def resolver_url(text: str) -> ResolverURL:
    """Return the URL of a text with ``{token}`` in its path or query.  Raise BadValue."""
    found = _URL.fullmatch(text)
    if found is None:
        raise BadValue("is no URL of a service: write https://tokens.example.com/consoles/{token}")
    scheme, authority, target = found[1].lower(), found[2], found[3]
    if "@" in authority:
        raise BadValue("has a user or a password, which is not sent")
    if "#" in target:
        raise BadValue("has a fragment, which is not sent")
    page_origin(f"{scheme}://{authority}")
    before, place, behind = target.partition(_PLACE)
    if not place or "{" in before + behind or "}" in before + behind:
        raise BadValue("has to have {token} once in its path or its query, and no other braces")
    before = before if before.startswith("/") else f"/{before}"
    return ResolverURL(scheme == "https", f"{scheme}://{authority}", before, behind)


@implementer(IRouter)
class ResolverRouter:
    """A router that asks a service for the host of a token, and caches an answer until it expires.

    ``ca`` has the authorities of the service's certificate, by default those of the machine.
    """

    upgrades_only = True

    def __init__(
        self,
        url: ResolverURL,
        locate: Locate,
        template: Upstream,
        networks: Networks,
        ca: Path | None,
        context: Context,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.ambient = locate.ambient
        self.consumed_cookies = locate.cookies
        self.secrets = locate.secrets
        self._url = url
        self._locate = locate
        self._template = template
        self._networks = networks
        self._identity = None if ca is None else Identity(Verify.CA, ca=ca)
        self._context = context
        self._time_of_day = time_of_day
        self._cache: OrderedDict[str, tuple[float, ResolvedHost]] = OrderedDict()

    async def route(self, request: Request, principal: Principal) -> Route | None:
        token = self._locate.find(request)
        if token is None:
            return None
        if len(token.encode()) > MAX_TOKEN:
            raise RouteNotFound(f"the token is longer than {MAX_TOKEN} bytes")
        if not token.isprintable():
            raise RouteNotFound("the token has a control character")
        found = self._cached(token)
        if found is None:
            found = await self._ask(token)
            self._keep(token, found)
        return Route(
            self._destination(found),
            self._locate.target(request) if found.path is None else found.path,
            principal=None if found.principal is None else Principal(found.principal),
        )

    async def _ask(self, token: str) -> ResolvedHost:
        answer: Answer = await self._context.http.request(
            "GET", self._url.of(token), fields=_FIELDS, max_body=MAX_ANSWER, identity=self._identity
        )
        if answer.status in _NO_TOKEN:
            raise RouteNotFound("there is no such token")
        if answer.status != 200:
            raise ServiceUnavailable(f"{self._url.origin} answered with status {answer.status}")
        try:
            found = parse_resolver_answer(answer.body)
        except ValueError as error:
            raise ServiceUnavailable(f"the answer of {self._url.origin} cannot be used: {error}") from None
        if found.expires is not None and found.expires <= self._time_of_day():
            raise RouteNotFound("the token has expired")
        return found

    def _destination(self, found: ResolvedHost) -> Destination:
        identity = self._template.identity
        if found.pins:
            identity = replace(identity, pins=found.pins, certificate=None)
        elif identity.verify is Verify.PIN and not identity.pins:
            raise ServiceUnavailable(
                f"the answer of {self._url.origin} has no pins, and the template has verify = pin"
            )
        address = TCPAddress(found.host, found.port)
        return Destination((address,), True, identity, found.host, self._template, self._networks)

    def _cached(self, token: str) -> ResolvedHost | None:
        kept = self._cache.get(token)
        if kept is None:
            return None
        until, found = kept
        expires = found.expires or 0.0
        if self._context.clock.seconds() < until and self._time_of_day() < expires:
            return found
        del self._cache[token]
        return None

    def _keep(self, token: str, found: ResolvedHost) -> None:
        """Cache an answer that says when it expires."""
        if found.expires is None:
            return
        self._cache.pop(token, None)
        self._cache[token] = (self._context.clock.seconds() + MAX_AGE, found)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)


class ResolverType:
    """The type ``resolver``."""

    name = "resolver"
    help = "Asks a service by HTTP for the host of a token."
    keys = (
        Key(
            "url",
            ROUTER,
            plain("URL with `{token}`", resolver_url),
            None,
            "URL of the service, as in `https://tokens.example.com/consoles/{token}`. It answers with JSON "
            "`{host, port, path, pins, principal, expires}`, of which `host` and `port` are required. Status "
            "404 or 410 means that there is no such token. An answer with `expires`, a time in seconds since "
            "1970, is cached until then, and for 60 seconds at most.",
            required=True,
        ),
        Key(
            "locate",
            ROUTER,
            locate_type("token"),
            "query:token",
            "Where a request has its token: `path:/c/{token}`, `query:token`, "
            "`host:{token}.consoles.example.com` or `cookie:NAME`. This part is not sent to the upstream.",
        ),
        TEMPLATE_KEY,
        ALLOW,
        DENY,
        Key(
            "ca",
            ROUTER,
            CERTIFICATES,
            None,
            "Authorities that may sign the certificate of the service. The default is the machine's list.",
        ),
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield a template that does not exist, and authorities for a service without TLS."""
        yield from template_conflicts("template", settings, names)
        if settings["ca"] is not None and not settings["url"].secure:
            yield "ca", "only with an https:// url: an http:// service has no certificate"

    def create(self, settings: SectionValues, context: Context) -> ResolverRouter:
        """Return the router."""
        return ResolverRouter(
            settings["url"],
            settings["locate"],
            context.upstreams[settings["template"]],
            networks_of(settings),
            settings["ca"],
            context,
        )


TYPE = ResolverType()

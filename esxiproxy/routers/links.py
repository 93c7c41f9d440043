"""A router for signed links: the link of a request says which host its console is on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import MappingProxyType

from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.config.consistency import template_conflicts
from esxiproxy.core.config.errors import shown
from esxiproxy.core.config.router_keys import ALLOW, DENY, TEMPLATE_KEY, networks_of
from esxiproxy.core.config.values import yes_or_no
from esxiproxy.core.errors import AccessDenied, LinkInvalid, LinkRevoked
from esxiproxy.core.http.link_place import LinkPlace, PlaceKind, offered, without_link
from esxiproxy.core.http.paths import ambiguous
from esxiproxy.core.http.request import Request
from esxiproxy.core.jwks import missing_package
from esxiproxy.core.link import (
    LEEWAY,
    MAX_REUSES,
    Link,
    claims_in,
    opaque_in,
    read_claims,
    unsealed_claims,
)
from esxiproxy.core.link_keys import InvalidKeys, LinkKeys, read_keys
from esxiproxy.core.networks import Networks
from esxiproxy.core.routing import Destination, Identity, Principal, Route, TCPAddress, Upstream, Verify
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.interfaces import IRouter
from esxiproxy.plugins import (
    ROUTER,
    BadValue,
    Context,
    Key,
    Names,
    SectionValues,
    path,
    plain,
)
from esxiproxy.plugins.watched_files import WatchedFiles

OPAQUE_SPACE = "links"
"""The space of the state with the sealed claims of opaque links, by the digests of the links."""
REVOKED_SPACE = "link-revoked"
"""The space of the state with the revoked links, by the digests of their ids."""


@implementer(IRouter)
class LinkRouter:
    """A router that sends a session to the host that its link names, with the target in the link.

    Every link that is refused gets the same answer after the same work: one signature or one unsealing, and
    the look-up of its revocation.  The log has the reason.
    """

    upgrades_only = True
    consumed_cookies: frozenset[bytes] = frozenset()

    def __init__(
        self,
        settings: SectionValues,
        context: Context,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._context = context
        self._time_of_day = time_of_day
        self._place: LinkPlace = settings["locate"]
        self._issuer: str = settings["issuer"]
        self._audience: str = settings["audience"]
        self._opaque: bool = settings["opaque"]
        self._template = context.upstreams[settings["template"]]
        self._networks = networks_of(settings)
        keys: Path = settings["keys"]
        self._files = WatchedFiles([keys], context, partial(read_keys, keys), self._loaded, self._failed)
        self.ambient = self._place.kind is PlaceKind.COOKIE
        secret = self._place.secret
        self.secrets: tuple[tuple[str, bytes], ...] = () if secret is None else (secret,)

    async def ready(self) -> None:
        """Read the keys.  Raise InvalidKeys if they cannot be used."""
        await self._files.current()

    async def route(self, request: Request, principal: Principal) -> Route | None:
        text = self._place.find(request)
        if text is None:
            return None
        if self._place.kind is PlaceKind.SUBPROTOCOL and not without_link(offered(request))[1]:
            raise AccessDenied(
                "a client offers its link beside the subprotocol of its console, as in "
                "new WebSocket(url, ['binary', 'esxiproxy.link.' + link])",
                status=400,
            )
        link: Link | None = None
        fault: LinkInvalid | None = None
        try:
            link = await self._verified(text)
            link.check_network(request.client.host)
        except LinkInvalid as error:
            fault = error
        revoked = await self._context.state.get(REVOKED_SPACE, key_of(link.id if link else ""))
        if link is None or fault is not None:
            raise fault or LinkInvalid("the link is not valid")
        if revoked is not None:
            raise LinkRevoked("the link was revoked")
        if link.once and link.issued < self._context.state.since:
            raise LinkInvalid(
                "the link works once and is older than the state: it may have been used before the state "
                "was lost"
            )
        return self._route(link)

    async def _verified(self, text: bytes) -> Link:
        if not self._opaque:
            claims = claims_in(text, await self._files.current(), self._issuer, self._audience)
        else:
            opaque, well_formed = opaque_in(text)
            stored = await self._context.state.get(OPAQUE_SPACE, key_of(opaque))
            claims = unsealed_claims(stored if well_formed else None, opaque, self._context.section)
        return read_claims(claims, self._issuer, self._audience, self._time_of_day())

    def _route(self, link: Link) -> Route:
        claims: tuple[OnceClaim, ...] = ()
        if link.once:
            # Of all sections that verify this link, since it works once in all of them together.
            name = f"link: {key_of(json.dumps([self._issuer, self._audience, link.id]))}"
            most = MAX_REUSES + 1 if link.reuse else 1
            claims = (OnceClaim(name, link.expires + LEEWAY, link.reuse, most),)
        limits = {} if link.lifetime is None else {"max_lifetime": link.lifetime}
        consumed = frozenset({self._place.name} if self.ambient else ())
        subject = None if link.subject is None else Principal(link.subject, consumed_cookies=consumed)
        return Route(
            destination_of(link, self._template, self._networks),
            target=link.path,
            principal=subject,
            limits=MappingProxyType(limits),
            claims=claims,
            link=link.id,
        )

    def _loaded(self, keys: LinkKeys) -> None:
        self._context.log.info(
            "[{section}] read its {count} keys again", section=self._context.section, count=len(keys)
        )

    def _failed(self, failure: Failure) -> None:
        self._context.log.error(
            "[{section}] keeps the keys that it has: {error}",
            section=self._context.section,
            error=str(failure.value),
        )


def destination_of(link: Link, template: Upstream, networks: Networks) -> Destination:
    """Return the host of a link, with the settings of a template.

    Raises LinkInvalid if the host cannot be verified by the rule of the link or the template.
    """
    identity = template.identity
    named = link.pins or link.certificate is not None
    if named:
        if not template.secure:
            raise LinkInvalid(f"the link has a pin, and [upstream {template.name}] is ws:// without TLS")
        identity = Identity(Verify.PIN, link.pins, link.certificate)
    elif template.secure and identity.verify is Verify.PIN and not (identity.pins or identity.certificate):
        raise LinkInvalid(f"the link has no pin, and [upstream {template.name}] has verify = pin")
    address = TCPAddress(link.host, link.port)
    return Destination((address,), template.secure, identity, link.host, template, networks)


class LinksType:
    """The type ``links``."""

    name = "links"
    help = "Sends a session to the host that a signed link in its request names."
    needs_lasting_state = True
    keys = (
        Key(
            "keys",
            ROUTER,
            path("file or folder"),
            None,
            "The keys that sign links: a JWK Set, or a folder with files `KID.eddsa.pem`, `KID.es256.pem` "
            "and `KID.hs256.key`. A key has one algorithm. The keys are read again when they change.",
            required=True,
        ),
        Key(
            "issuer", ROUTER, plain("text", lambda text: _text(text)), None, "The `iss` of every link.", True
        ),
        Key(
            "audience",
            ROUTER,
            plain("text", lambda text: _text(text)),
            None,
            "The `aud` of every link, which names this proxy.",
            required=True,
        ),
        Key(
            "signing_key",
            ROUTER,
            plain("key id", lambda text: _text(text)),
            None,
            "KID of the private key with which `esxiproxy link` signs. A proxy that only verifies links has "
            "none.",
        ),
        Key(
            "locate",
            ROUTER,
            plain(
                "`path:/PREFIX/{link}`, `query:NAME`, `cookie:NAME` or `subprotocol`",
                lambda text: _place(text),
            ),
            "path:/c/{link}",
            "Where a request has its link. As a subprotocol it is offered as `esxiproxy.link.LINK` beside "
            "another one.",
        ),
        TEMPLATE_KEY,
        ALLOW,
        DENY,
        Key(
            "opaque",
            ROUTER,
            plain("`yes` or `no`", yes_or_no),
            "no",
            "Whether a link is a random id and its claims stand sealed in the state, so that the link does "
            "not show them. Such links are made by `esxiproxy link` and need `state = sqlite:PATH`.",
        ),
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield the mistakes of a section: its template, its keys, a missing package."""
        yield from template_conflicts("template", settings, names)
        if (text := missing_package(self.name)) is not None:
            yield "type", text
            return
        try:
            keys = read_keys(settings["keys"])
        except InvalidKeys as error:
            yield "keys", str(error)
            return
        wanted = settings["signing_key"]
        if wanted is None:
            return
        if wanted not in keys:
            known = ", ".join(sorted(keys)[:8])
            yield "signing_key", f"no key {shown(wanted)} in {settings['keys']}: there is {known}"
        elif keys[wanted].private is None:
            yield "signing_key", f"the key {shown(wanted)} is public: signing needs its private key"

    def create(self, settings: SectionValues, context: Context) -> LinkRouter:
        """Return the router."""
        return LinkRouter(settings, context)


def _text(text: str) -> str:
    if len(text) > 256 or not text.isprintable():
        raise BadValue("is longer than 256 characters, or has control characters")
    return text


def _place(text: str) -> LinkPlace:
    """Return the place of links.  Raises BadValue."""
    kind, _, rest = text.partition(":")
    name = rest.encode("utf-8")
    if text == "subprotocol":
        return LinkPlace(PlaceKind.SUBPROTOCOL)
    if kind == "path" and re.fullmatch(r"/[A-Za-z0-9._~/-]*\{link\}", rest):
        name = name.removesuffix(b"{link}")
        if name.endswith(b"/") and not ambiguous(name) and name != b"/":
            return LinkPlace(PlaceKind.PATH, name)
    if kind in ("query", "cookie") and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", rest):
        return LinkPlace(PlaceKind(kind), name)
    raise BadValue(
        f"{shown(text)} is no place of a link: write path:/c/{{link}}, query:link, cookie:NAME or subprotocol"
    )


TYPE = LinksType()

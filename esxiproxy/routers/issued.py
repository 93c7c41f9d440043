"""A router for tickets that clients have asked for through the proxy: each leads to its host, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from zope.interface import implementer

from esxiproxy.core.config.consistency import template_conflicts
from esxiproxy.core.config.router_keys import TEMPLATE_KEY
from esxiproxy.core.errors import LinkInvalid
from esxiproxy.core.http.request import Request
from esxiproxy.core.issued_ticket import PATH, SPACE, open_issued_ticket
from esxiproxy.core.routing import Destination, Principal, Route, TCPAddress, Upstream
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.claim import OnceClaim
from esxiproxy.core.session.ticket_owner import owner_of
from esxiproxy.interfaces import IRouter
from esxiproxy.plugins import Context, Key, Names, SectionValues
from esxiproxy.routers.vsphere import identity_of

_LONGEST = 4096


@implementer(IRouter)
class IssuedRouter:
    """A router that sends ``/ticket/TICKET`` to the host that has issued the ticket.

    A ticket that did not pass the proxy is none of its own, and the next router is asked.
    """

    upgrades_only = True
    ambient = False
    consumed_cookies: frozenset[bytes] = frozenset()
    secrets = (("path", PATH),)

    def __init__(
        self, template: Upstream, context: Context, time_of_day: Callable[[], float] = time.time
    ) -> None:
        self._template = template
        self._context = context
        self._time_of_day = time_of_day

    async def route(self, request: Request, principal: Principal) -> Route | None:
        path = request.head.target.partition(b"?")[0]
        if not path.startswith(PATH) or len(path) > _LONGEST:
            return None
        ticket = unquote_to_bytes(path.removeprefix(PATH)).decode("latin-1")
        key = key_of(ticket)
        stored = await self._context.state.get(SPACE, key)
        if stored is None:
            return None
        issued = open_issued_ticket(stored, ticket, self._time_of_day())
        if issued.listener != request.listener:
            raise LinkInvalid("the ticket was asked for at another listener than this one")
        if issued.owner not in ("", owner_of(principal)):
            raise LinkInvalid("the ticket was asked for by another principal")
        host = issued.ticket.host
        destination = Destination(
            (TCPAddress(host, issued.ticket.port),),
            True,
            identity_of(issued.ticket, self._template),
            host,
            self._template,
            issued.rule,
        )
        return Route(destination, claims=(OnceClaim(f"issued ticket: {key}", issued.expires),))


class IssuedType:
    """The type ``issued``."""

    name = "issued"
    help = "Opens consoles of tickets that clients got through a listener with `tickets = rewrite`."
    keys: tuple[Key, ...] = (TEMPLATE_KEY,)

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield the mistakes of a section: a template that does not exist."""
        yield from template_conflicts("template", settings, names)

    def create(self, settings: SectionValues, context: Context) -> IssuedRouter:
        """Return the router."""
        return IssuedRouter(context.upstreams[settings["template"]], context)


TYPE = IssuedType()

"""A router for the machines of vCenter: each console gets a ticket of its own when it is opened."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from zope.interface import implementer

from esxiproxy.core.config.access import named_conflicts
from esxiproxy.core.config.consistency import template_conflicts
from esxiproxy.core.config.key import NAMES
from esxiproxy.core.config.router_keys import ALLOW, DENY, TEMPLATE_KEY, networks_of
from esxiproxy.core.console_link import PATH as LINK_PATH
from esxiproxy.core.console_link import SPACE, ConsoleLink, link_in, open_console_link
from esxiproxy.core.console_tickets import (
    MACHINE_PATH,
    MAX_ANSWER,
    MAX_QUESTION,
    TICKET_PATH,
    AcquiredTicket,
    FoundMachine,
    MachineQuestion,
    read_machine,
    read_ticket,
)
from esxiproxy.core.errors import (
    LinkExpired,
    LinkUsed,
    MachineNotFound,
    RouteNotFound,
    ServiceUnavailable,
    TicketsUnavailable,
    UpstreamUntrusted,
)
from esxiproxy.core.http.paths import ambiguous
from esxiproxy.core.http.request import Request
from esxiproxy.core.login_rows import LOGINS
from esxiproxy.core.networks import Networks
from esxiproxy.core.private_sites import TICKETS, PrivateSites
from esxiproxy.core.routing import Destination, Identity, Principal, Route, TCPAddress, Upstream, Verify
from esxiproxy.core.sealing import key_of
from esxiproxy.interfaces import Answer, IRouter
from esxiproxy.plugins import ROUTER, Context, Key, Names, SectionValues

PREFIX = b"/vm/"
"""The path in front of a machine."""
RETURN_TIMEOUT = 3.0
"""Seconds within which an admin process that has ended has to be back."""
RETRY_INTERVAL = 0.25
"""Seconds between two attempts to reach it."""
MAX_TICKET_QUESTIONS = 64
"""Maximum number of tickets that one process waits for at a time; further sessions wait for their turn."""
_ANSWER_TIMEOUT = 60.0
"""Seconds that an answer may take; ``decision_timeout`` is shorter as a rule."""
_HTTPS = 443
_MAX_NAME = 256
_MAX_SHOWN = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[0-9A-Fa-f-]{32,36}")
_FIELDS = ((b"Content-Type", b"application/json"),)


@implementer(IRouter)
class VSphereRouter:
    """A router that finds the machine of a request, and acquires a ticket once the console may be opened.

    ``sites`` has the socket of the admin process, which knows the machines and applies the rules.
    """

    upgrades_only = True
    ambient = False
    consumed_cookies: frozenset[bytes] = frozenset()
    secrets = (("path", LINK_PATH),)

    def __init__(
        self,
        template: Upstream,
        networks: Networks,
        sites: PrivateSites,
        context: Context,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._template = template
        self._networks = networks
        self._sites = sites
        self._context = context
        self._time_of_day = time_of_day
        self._name = context.section.partition(" ")[2]
        self._turns = DeferredSemaphore(MAX_TICKET_QUESTIONS)

    async def route(self, request: Request, principal: Principal) -> Route | None:
        link = link_in(request.head.target)
        if link is not None:
            return await self._link_route(link)
        machine = machine_in(request.head.target)
        if machine is None:
            return None
        question = MachineQuestion(self._name, machine, principal)
        return await self._route(question, partial(self._acquire, question))

    async def _link_route(self, link: str) -> Route:
        """Return the route of a link, which is used up when the ticket is acquired."""
        key = key_of(link)
        stored = await self._context.state.get(SPACE, key)
        content: ConsoleLink = open_console_link(stored, link, self._time_of_day())
        await self._check_login(content.principal)
        question = MachineQuestion(self._name, content.machine, content.principal)

        async def acquire() -> Route:
            await self._check_login(content.principal)
            if await self._context.state.pop(SPACE, key) is None:
                raise LinkUsed("the link was opened")
            return await self._acquire(question)

        route = await self._route(question, acquire)
        return replace(route, principal=content.principal, link=key)

    async def _check_login(self, principal: Principal) -> None:
        """Raise LinkExpired if the login with which a link was made has ended.

        A logout, a user who was removed, and the end of the lifetime remove the login from the state.
        """
        if principal.login and await self._context.state.get(LOGINS, principal.login) is None:
            raise LinkExpired("the login with which the link was made has ended")

    async def _route(self, question: MachineQuestion, acquire: Callable[[], Awaitable[Route]]) -> Route:
        answer = await self._ask(MACHINE_PATH, question)
        machine = read_machine(answer.status, answer.body)
        addresses = (TCPAddress(machine.host, _HTTPS),) if machine.host else ()
        destination = Destination(
            addresses,
            True,
            self._template.identity,
            machine.host or self._template.name,
            self._template,
            self._networks,
            is_listed=True,
        )
        return self._route_to(destination, machine, None, acquire)

    async def _acquire(self, question: MachineQuestion) -> Route:
        """Return the final route of a console, with a new ticket of the host that runs the machine now."""
        await self._turns.acquire()
        try:
            answer = await self._ask(TICKET_PATH, question)
        finally:
            self._turns.release()
        machine, ticket = read_ticket(answer.status, answer.body)
        destination = Destination(
            (TCPAddress(ticket.host, ticket.port),),
            True,
            identity_of(ticket, self._template),
            ticket.host,
            self._template,
            self._networks,
            is_listed=True,
        )
        return self._route_to(destination, machine, b"/ticket/" + ticket.ticket.encode("ascii"), None)

    def _route_to(
        self,
        destination: Destination,
        machine: FoundMachine,
        target: bytes | None,
        acquire: Callable[[], Awaitable[Route]] | None,
    ) -> Route:
        return Route(
            destination,
            target,
            console=machine.id,
            max_consoles=machine.max_consoles,
            console_name=printable(machine.name),
            acquire=acquire,
        )

    async def _ask(self, path: str, question: MachineQuestion) -> Answer:
        """Return the answer of the admin process, which may be started again meanwhile.

        A question for a ticket that was sent is not repeated, since each ticket counts.
        """
        body = question.octets()
        if len(body) > MAX_QUESTION:
            raise TicketsUnavailable("the groups of the principal are too many for a question")
        deadline = self._context.clock.seconds() + RETURN_TIMEOUT
        while True:
            # The admin process of an older generation has ended after a reload.
            for socket in (self._sites.own(TICKETS), self._sites.newest(TICKETS)):
                try:
                    answer: Answer = await self._context.http.request(
                        "POST",
                        f"http://{TICKETS}{path}",
                        fields=_FIELDS,
                        body=body,
                        timeout=_ANSWER_TIMEOUT,
                        max_body=MAX_ANSWER,
                        socket=socket,
                    )
                    return answer
                except ServiceUnavailable as error:
                    cause = error.__cause__
                    is_lost = cause is not None and path == MACHINE_PATH
                    if not is_lost and not isinstance(cause, ConnectError):
                        raise TicketsUnavailable(f"the admin process gave no answer: {error}") from None
            if self._context.clock.seconds() >= deadline:
                raise TicketsUnavailable(
                    f"the admin process cannot be reached and was not back within {RETURN_TIMEOUT:g} s"
                )
            await deferLater(self._context.clock, RETRY_INTERVAL)


def machine_in(target: bytes) -> str | None:
    """Return the machine in a target ``/vm/VSPHERE/UUID``, ``/vm/UUID`` or ``/vm/NAME``.

    Return None for another path.  Raises MachineNotFound for a path that names no machine.
    """
    path = target.partition(b"?")[0]
    if not path.startswith(PREFIX):
        return None
    rest = path.removeprefix(PREFIX)
    if not rest or rest.count(b"/") > 1:
        return None
    if ambiguous(path):
        raise RouteNotFound("the path is ambiguous, and the machine depends on it")
    text = unquote_to_bytes(rest).decode("utf-8")  # a path in another encoding is ambiguous
    if len(text) > _MAX_NAME or not text.isprintable() or ("/" in text and not _ID.fullmatch(text)):
        raise MachineNotFound
    return text


def identity_of(ticket: AcquiredTicket, template: Upstream) -> Identity:
    """Return the rule for the certificate of a ticket's host: that of the ticket, or else of the template.

    Raises UpstreamUntrusted if the template requires a thumbprint and the ticket has none.
    """
    if ticket.certificate is not None or ticket.pins:
        return Identity(Verify.PIN, ticket.pins, ticket.certificate)
    identity = template.identity
    if identity.verify is Verify.PIN and not identity.pins:
        raise UpstreamUntrusted(
            f"the ticket for {ticket.host} names no certificate, and [upstream {template.name}] has "
            "verify = pin"
        )
    return identity


def printable(name: str) -> str:
    """Return the name of a machine for logs, without control characters and marks of direction."""
    return "".join(each if each.isprintable() else "\ufffd" for each in name[:_MAX_SHOWN])


class VSphereType:
    """The type ``vsphere``."""

    name = "vsphere"
    help = "Opens consoles of the machines of vCenter by name, with a new ticket for each."
    keys = (
        Key(
            "vsphere",
            ROUTER,
            NAMES,
            None,
            "NAMES of the `[vsphere NAME]` sections whose machines this router opens, separated by commas.",
            required=True,
        ),
        Key(
            "access",
            ROUTER,
            NAMES,
            None,
            "NAMES of the `[access NAME]` sections that say who may open which machines, separated by "
            "commas. Their rights add up.",
            required=True,
        ),
        TEMPLATE_KEY,
        replace(
            ALLOW,
            required=False,
            meaning=f"{ALLOW.meaning} Without this key every other address may be dialled.",
        ),
        DENY,
    )

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield the sections that do not exist, and a template without TLS."""
        yield from named_conflicts(settings, names)
        yield from template_conflicts("template", settings, names)
        template = names.upstreams.get(settings["template"])
        if template is not None and not template.secure:
            yield "template", f"[upstream {template.name}] is ws://: consoles of vSphere need TLS"

    def create(self, settings: SectionValues, context: Context) -> VSphereRouter:
        """Return the router.  Raises RuntimeError in a process without an admin process."""
        if context.sites is None:
            raise RuntimeError(
                "it needs the admin process, which the running master does not know: restart the proxy"
            )
        template = context.upstreams[settings["template"]]
        return VSphereRouter(template, networks_of(settings), context.sites, context)


TYPE = VSphereType()

"""The filters of a listener that changes tickets: chosen by the path of a request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from enum import Enum
from ipaddress import ip_address

from esxiproxy.core.console_tickets import AcquiredTicket
from esxiproxy.core.errors import LimitReached, RouteNotFound, UpstreamDenied
from esxiproxy.core.http.answer_filter import is_compressed
from esxiproxy.core.http.head import Fields
from esxiproxy.core.http.paths import ambiguous, plain_path
from esxiproxy.core.http.request import Request
from esxiproxy.core.issued_ticket import LIFETIME, SPACE, IssuedTicket
from esxiproxy.core.networks import Network, Networks
from esxiproxy.core.routing import Principal, Upstream
from esxiproxy.core.session.claim import RateClaim
from esxiproxy.core.session.connection_limits import client_network
from esxiproxy.core.session.ticket_owner import owner_of
from esxiproxy.interfaces import IState
from esxiproxy.ticket_rewriting.decompressor import Decompressor
from esxiproxy.ticket_rewriting.json_answer import changed_rest, changed_vi_json
from esxiproxy.ticket_rewriting.public_address import PublicAddress
from esxiproxy.ticket_rewriting.soap_answer import Beginning, SoapTicket
from esxiproxy.ticket_rewriting.ticket_fields import acquired_ticket, refused

MAX_ANSWER = 64 << 10
"""Maximum size in bytes of an answer with a ticket."""
PER_SECOND, BURST = 2, 300
"""Tickets that are stored for one client: a second, and at once."""
_COMPRESSED = "it is compressed, although the proxy has asked for an answer that is not"
_OTHER_SERVICE = re.compile(rb'("?)urn:(?:pbm|sms|eam|vsan|lookup|sso)(?:/[0-9A-Za-z.]{1,32})?\1')
"""The SOAPAction of a service that issues no tickets of consoles."""
_SOAP_PATH = re.compile(rb"(?i)/sdk(?:/vimService)?")
_VI_JSON_PATH = re.compile(rb"(?i)/sdk/vim25/[^/]{1,64}/VirtualMachine/[^/]{1,256}/Acquire(?:Mks)?Ticket")
_REST_PATH = re.compile(rb"(?i)/(?:api|rest)/vcenter/vm/[^/]{1,256}/console/tickets")


class AnswerKind(Enum):
    """The form of an answer with a ticket."""

    SOAP = "soap"
    VI_JSON = "vi-json"
    REST = "rest"


def kind_of(request: Request, target: bytes) -> AnswerKind | None:
    """Return the form of the ticket that the answer to this request may have, or None if it has none.

    ``target`` is sent to the upstream.  Raise RouteNotFound if servers may take its path for another one that
    has tickets.
    """
    head = request.head
    if head.method.upper() != b"POST":
        return None
    sent = target.partition(b"?")[0]
    kind = _kind_of_path(plain_path(sent))
    if kind is not None and ambiguous(sent):
        raise RouteNotFound("the path is ambiguous, and this listener changes the tickets that it may have")
    actions = [each.strip() for each in head.values(b"soapaction")]
    if kind is AnswerKind.SOAP and len(actions) == 1 and _OTHER_SERVICE.fullmatch(actions[0]):
        return None
    return kind


def _kind_of_path(path: bytes) -> AnswerKind | None:
    if _SOAP_PATH.fullmatch(path):
        return AnswerKind.SOAP
    if _VI_JSON_PATH.fullmatch(path):
        return AnswerKind.VI_JSON
    return AnswerKind.REST if _REST_PATH.fullmatch(path) else None


class TicketFilters:
    """The filters of one listener.

    ``address`` is the listener as its clients see it.  ``networks`` are those in which the hosts of tickets
    have to be.
    """

    def __init__(
        self,
        address: PublicAddress,
        networks: Sequence[Network],
        state: IState,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self._networks = tuple(networks)
        self._state = state
        self._time_of_day = time_of_day

    def choose(self, request: Request, target: bytes, principal: Principal | None) -> TicketFilter | None:
        """Return a filter for the answer to a request that may ask for a ticket.  Raise RouteNotFound."""
        kind = kind_of(request, target)
        return None if kind is None else TicketFilter(kind, self, request, principal)

    async def store(self, ticket: AcquiredTicket, request: Request, principal: Principal | None) -> None:
        """Store where a ticket leads, for the client that has asked for it.

        Raise UpstreamDenied if its host is not in the networks, and LimitReached if the client has asked for
        too many tickets.  The addresses of a name are checked when the console is opened.
        """
        owner = owner_of(principal)
        expires = self._time_of_day() + LIFETIME
        issued = IssuedTicket(ticket, self._networks, expires, request.listener, owner)
        if not _may_be_dialled(ticket.host, issued.rule):
            raise UpstreamDenied(f"the ticket is for {ticket.host}, which is not in tickets_allow")
        who = f"principal {owner}" if owner else f"client {client_network(request.client.host) or 'unix'}"
        rate = RateClaim("tickets", f"tickets {request.listener} {who}", PER_SECOND, BURST)
        if await self._state.take(f"ticket {request.session}", (rate,)) is not None:
            raise LimitReached(f"a client gets {PER_SECOND} console tickets a second, after {BURST} at once")
        await self._state.put(SPACE, issued.key, issued.sealed(), issued.expires)


class TicketFilter:
    """The filter of one answer that may have a ticket."""

    def __init__(
        self, kind: AnswerKind, filters: TicketFilters, request: Request, principal: Principal | None
    ) -> None:
        self._request = request
        self._principal = principal
        self._kind = kind
        self._filters = filters
        self._beginning = Beginning() if kind is AnswerKind.SOAP else None
        self._decompressor: Decompressor | None = None
        self._size = 0

    def takes(self, status: int, fields: Fields) -> bool:
        """Return whether an answer with this head may have a ticket.  Raise UpstreamInvalid."""
        if status not in (200, 201):
            return False
        if is_compressed(fields):
            if self._kind is not AnswerKind.SOAP or not Decompressor.reads(fields):
                raise refused(_COMPRESSED)
            self._decompressor = Decompressor()
        return True

    def feed(self, octets: bytes) -> bool:
        """Look at the next bytes; return False for an answer without a ticket.  Raise UpstreamInvalid."""
        self._size += len(octets)
        if self._beginning is not None and not self._may_have_ticket(self._beginning, octets):
            return False
        if self._size > MAX_ANSWER:
            raise refused(f"it has more than {MAX_ANSWER} bytes")
        return True

    def _may_have_ticket(self, beginning: Beginning, octets: bytes) -> bool:
        if beginning.has_ticket is None:
            if not octets:
                beginning.end()
            elif self._decompressor is None:
                beginning.feed(octets)
            else:
                beginning.feed(self._decompressor.feed(octets, beginning.wanted))
        if beginning.has_ticket and self._decompressor is not None:
            raise refused(_COMPRESSED)
        return beginning.has_ticket is not False

    async def change(self, body: bytes, upstream: Upstream) -> bytes:
        """Return the answer with the proxy in place of the host, and store where the ticket leads."""
        address = self._filters.address
        ticket: AcquiredTicket | None
        if self._kind is AnswerKind.SOAP:
            document = SoapTicket(body)
            ticket = acquired_ticket(document.fields, document.thumbprints, upstream.host)
            changed = document.changed(address, ticket.ticket)
        elif self._kind is AnswerKind.VI_JSON:
            changed, ticket = changed_vi_json(body, upstream.host, address)
        else:
            changed, ticket = changed_rest(body, address)
        if ticket is not None:
            await self._filters.store(ticket, self._request, self._principal)
        return changed


def _may_be_dialled(host: str, rule: Networks) -> bool:
    """Return whether a host may be in the networks: an address in them, or a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return True
    return rule.permits(address)

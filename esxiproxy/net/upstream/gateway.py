"""Decides who a client is and where its session goes, and connects to the upstream."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.task import deferLater

from esxiproxy.core.errors import (
    PortalUnavailable,
    UpgradeRequired,
    UpstreamDenied,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnresolved,
)
from esxiproxy.core.http.answer_filter import AnswerFilters
from esxiproxy.core.http.portal import PORTAL_SECRETS, VISITOR_FIELDS
from esxiproxy.core.identity_cache import IdentityCache
from esxiproxy.core.proxy_protocol import encode_proxy_header
from esxiproxy.core.routing import Destination, Principal, Route, Upstream
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME, ConnectionLimits, client_network
from esxiproxy.core.session.record import CONSOLE, HTTP
from esxiproxy.core.session.session import Session
from esxiproxy.net.admission.admission import Admission
from esxiproxy.net.admission.drains import ActiveDrains
from esxiproxy.net.logins import Logins
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.upstream.candidates import Surroundings, check_addresses, literal_candidates, resolve
from esxiproxy.net.upstream.connector import Connector, Dialled, P
from esxiproxy.net.upstream.decision import Decision, Plugin
from esxiproxy.net.upstream.drain_checks import (
    check_address,
    check_arrival,
    check_destination,
    check_route,
    undrained,
)
from esxiproxy.net.upstream.failover import connect_first
from esxiproxy.net.upstream.health import Balancer
from esxiproxy.net.upstream.race import Candidate

PORTAL_TIMEOUT = 3.0
"""Seconds within which an admin process that has ended has to be back."""
_PORTAL_INTERVAL = 0.1
"""Seconds between two attempts to connect to the portal."""
_NAME_TIMEOUT = 2.0
"""Seconds for the name of a host, before a router is asked for the final route without a slot."""


class Gateway:
    """The authenticators, routers, limits and connector of one listener.

    ``own_addresses`` returns the addresses and ports of the proxy's listeners.  ``forwards`` is whether the
    listener forwards plain HTTP.  ``drains`` are those that refuse consoles.  ``portal`` gets all plain HTTP.
    ``answer_filters`` may change answers to plain HTTP requests.
    """

    def __init__(
        self,
        authenticators: Sequence[Plugin],
        routers: Sequence[Plugin],
        connector: Connector,
        admission: Admission,
        connection_limits: ConnectionLimits,
        own_addresses: Callable[[], Collection[tuple[str, int]]] = tuple,
        forwards: bool = False,
        logins: Logins | None = None,
        drains: ActiveDrains | None = None,
        portal: Destination | None = None,
        answer_filters: AnswerFilters | None = None,
    ) -> None:
        self.portal = portal
        self.answer_filters = answer_filters
        self.admission = admission
        self.secrets = tuple(
            secret for plugin in routers for secret in getattr(plugin.instance, "secrets", ())
        )
        """The places of links and tokens in a target."""
        if portal is not None:
            self.secrets += PORTAL_SECRETS
        self._router_cookies = frozenset[bytes]().union(
            *(_cookies(plugin.instance) for plugin in (*routers, *authenticators))
        )
        self.identity_fields = frozenset(
            name for plugin in authenticators for name in getattr(plugin.instance, "identity_fields", ())
        ) | (VISITOR_FIELDS if portal is not None else frozenset())
        """The fields that name the client to upstreams, in lower case, which a client may not send."""
        self.explains = any(
            not getattr(plugin.instance, "never_refuses", False) for plugin in (*authenticators, *routers)
        )
        """Whether a plain request may get the reason for which an opening handshake is refused."""
        self.forwards = forwards
        self._logins = logins
        self._drains = drains
        self._own_addresses = own_addresses
        self.connection_limits = connection_limits
        self._overridden_limits = IdentityCache(connection_limits.overridden_by)
        self._authenticators = authenticators
        self._routers = routers
        self._connector = connector
        self._balancer = Balancer(
            connector.health, lambda address: admission.connections[address], random.random
        )

    def is_drained(self, listener: str) -> bool:
        """Return whether the listener or the whole proxy takes no new consoles."""
        return self._drains is not None and self._drains.current.of_listener(listener) is not None

    async def decide(self, session: Session) -> tuple[Principal, Route]:
        """Return the client's principal and the route of the session.

        Each authenticator and each router has ``decision_timeout`` seconds.  Raises a SessionError when the
        client is refused or a deadline expires.
        """
        admission, drains = self.admission, self._drains
        is_page = session.kind is HTTP
        forwarded = is_page and self.forwards
        if drains is not None and not forwarded and drains.may_refuse:
            await check_arrival(drains, session)
        if claims := admission.arrive(session, self.connection_limits):
            await admission.take_claims(session, claims, self.connection_limits)
        decision = Decision(
            session, self._authenticators, self._routers, admission.clock, self._router_cookies
        )
        decided = decision.start()
        principal, route = decided if isinstance(decided, tuple) else await decided
        forwarded = forwarded and not decision.upgrades_only
        if drains is not None and not forwarded and drains.current.has_own:
            await check_route(drains, session, route, self._connector)
        if is_page and not forwarded:
            await admission.check_claims(route.claims)
            raise UpgradeRequired("only WebSocket connections are served here")
        limits = self._connection_limits_of(route.upstream)
        if claims := admission.decision_claims(session, route, limits):
            await admission.take_decision_slots(session, route, claims, limits)
        if not is_page and self._logins is not None and decision.authenticator is not None:
            self._logins.remember(session, decision.authenticator)
        return principal, route

    def _connection_limits_of(self, upstream: Upstream) -> ConnectionLimits:
        overrides = upstream.connection_limits
        return self._overridden_limits(overrides) if overrides else self.connection_limits

    def connect(
        self, session: Session, destination: Destination, make: Callable[[Upstream, UpstreamTLS | None], P]
    ) -> Awaitable[P]:
        """Acquire a connection slot, and connect the protocol that ``make`` builds to the destination.

        Of several addresses the first whose host is verified is used.  Each attempt has a slot of its own.
        All of them, and the look-up of names, have ``upstream_handshake_timeout`` seconds together.  Raises a
        SessionError.  If this fails or is cancelled, all slots are released and no connection is left.
        """
        drains, route = self._drains, session.route
        if (
            destination.networks.unchecked
            and (drains is None or not drains.current.has_own)
            and (route is None or route.acquire is None)
            and (candidates := literal_candidates(destination)) is not None
            and len(candidates) == 1
        ):  # one configured address, as usual
            seconds = session.limits.upstream_handshake_timeout
            return self._attempt(session, make, candidates[0], seconds, None)
        return self._connect(session, destination, make)

    async def _connect(
        self, session: Session, destination: Destination, make: Callable[[Upstream, UpstreamTLS | None], P]
    ) -> P:
        """Connect to the first of several addresses, or to a host that has to be looked up or checked."""
        drains = self._drains if session.kind is CONSOLE else None
        if drains is not None:
            check_destination(drains, session, destination)
        if session.route is not None and session.route.acquire is not None:
            destination = await self._acquire_first(session, destination) or destination
        return await connect_first(
            destination,
            partial(self._attempt, session, make),
            self._connector.names,
            self.admission.clock,
            session.limits.upstream_handshake_timeout,
            Surroundings(session.request.listening, self._own_addresses),
            self._connector.health,
            partial(self._order, session),
            None if drains is None else partial(undrained, drains, destination),
        )

    async def connect_portal(self, session: Session, make: Callable[[Upstream, UpstreamTLS | None], P]) -> P:
        """Connect the protocol that ``make`` builds to the portal, for a plain HTTP request.

        The client may be one that no authenticator knows, or that has no name.  The connection counts under
        no limit.  While the admin process starts again, the request waits.  Raises PortalUnavailable and
        every other SessionError.
        """
        assert self.portal is not None
        await self.admission.take_arrival_slots(session, self.connection_limits)
        asked = Decision(session, self._authenticators, (), self.admission.clock)
        principal = await asked.recognise()
        if principal is not None and principal.name != ANONYMOUS_NAME:
            cookies = principal.consumed_cookies | self._router_cookies
            session.principal = replace(principal, consumed_cookies=cookies)
        else:
            session.principal = None
        session.routed(Route(self.portal), "portal")
        end = self.admission.clock.seconds() + PORTAL_TIMEOUT
        while True:
            try:
                return await self.connect(session, self.portal, make)
            except UpstreamError as error:
                if self.admission.clock.seconds() + _PORTAL_INTERVAL >= end:
                    why = f"the admin process was not back within {PORTAL_TIMEOUT:g} s: {error}"
                    raise PortalUnavailable(why) from None
            await deferLater(self.admission.clock, _PORTAL_INTERVAL)

    def _order(self, session: Session, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        client = client_network(session.request.client.host) or ""
        return self._balancer.order(candidates, client)

    def answered(self, connection: Dialled, status: int) -> None:
        """Note the status of an upstream's answer, for the health of its address."""
        address = connection.address
        if address is not None:
            health = self._connector.health
            (health.failed if status >= 500 else health.succeeded)(address)

    async def _attempt(
        self,
        session: Session,
        make: Callable[[Upstream, UpstreamTLS | None], P],
        candidate: Candidate,
        seconds: float,
        may_send: Callable[[], bool] | None,
    ) -> P:
        """Acquire a slot of one address and connect to it."""
        upstream = candidate.upstream
        limits = self._connection_limits_of(upstream)
        dialled = upstream.host, candidate.host
        if session.has_marks or may_send is not None:
            may_send = partial(self._sending, session, dialled, may_send)
        else:
            session.dialled = dialled
        slot = await self.admission.take_connection_slot(session, candidate.host, limits)
        try:
            if self._drains is not None and self._drains.current.has_own and session.kind is CONSOLE:
                check_address(self._drains, session, candidate)
            acquires = session.route is not None and session.route.acquire is not None
            if acquires and (moved := await self._acquire(session)) is not None:
                slot.release()
                return await self.connect(session, moved, make)
            dialling = self._connector.connect(
                upstream,
                candidate.host,
                make,
                session.limits,
                self.proxy_header(session, upstream),
                slot,
                seconds,
                may_send,
            )
        except BaseException:
            slot.release()
            raise
        return await dialling

    async def _acquire_first(self, session: Session, destination: Destination) -> Destination | None:
        """Ask the router for the final route before a host is dialled, while a slot of its host is taken.

        One host that is an address is left to the attempt to dial it, which takes the slot.  Otherwise the
        final route is asked for once.  It is without a slot for several hosts, for a name that cannot be
        resolved, and for a host that may not be dialled: the final route may have another host, which is
        checked as well.
        """
        first = await self._provisional(session, destination)
        if first is None:
            return await self._acquire(session)
        if literal_candidates(destination):
            return None
        limits = self._connection_limits_of(first.upstream)
        slot = await self.admission.take_connection_slot(session, first.host, limits)
        try:
            return await self._acquire(session)
        finally:
            slot.release()

    async def _provisional(self, session: Session, destination: Destination) -> Candidate | None:
        """Return the first address of the one host of a destination, or None if none may be dialled."""
        if len(destination.addresses) != 1:
            return None
        seconds = min(_NAME_TIMEOUT, session.limits.upstream_handshake_timeout)
        around = Surroundings(session.request.listening, self._own_addresses)
        try:
            candidates = literal_candidates(destination) or await resolve(
                destination, self._connector.names, self.admission.clock, seconds
            )
            check_addresses(candidates, destination, around)
        except (UpstreamUnresolved, UpstreamTimeout, UpstreamDenied):
            return None
        return candidates[0]

    async def _acquire(self, session: Session) -> Destination | None:
        """Ask the router for the final route, such as one with a fresh ticket, now that a slot is taken.

        Return its destination if that is another one, whose slot has to be taken then.
        """
        route = session.route
        if route is None or route.acquire is None:
            return None
        acquired = await route.acquire()
        session.acquired(acquired)
        return acquired.destination if acquired.destination != route.destination else None

    def _sending(
        self, session: Session, dialled: tuple[str, str], may_send: Callable[[], bool] | None
    ) -> bool:
        """Return whether the request may be sent, and note where to and that the marks are used then."""
        if may_send is not None and not may_send():
            return False
        session.dialled = dialled
        session.marks_used = session.has_marks
        return True

    def proxy_header(self, session: Session, upstream: Upstream) -> bytes:
        """Return the PROXY header for a connection to this upstream; empty if the upstream expects none."""
        version = upstream.send_proxy_protocol
        if version is None:
            return b""
        return encode_proxy_header(version, session.request.client, session.request.listening)

    def claim_names(self, session: Session, upstream: Upstream) -> tuple[str, ...]:
        """Return the names of the claims under which a connection counts for the client of a request."""
        claims = self._connection_limits_of(upstream).on_http_client(session.request)
        return tuple(claim.name for claim in claims) if claims else ()


def _cookies(router: Any) -> frozenset[bytes]:
    """Return the names of the cookies that are for a router or an authenticator, and not for upstreams."""
    secrets = (name for kind, name in getattr(router, "secrets", ()) if kind == "cookie")
    return frozenset(secrets) | frozenset(getattr(router, "consumed_cookies", ()))

"""Decides who a client is and where its session goes, and connects to the upstream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall

from esxiproxy.core.errors import DecisionTimeout
from esxiproxy.core.proxy_protocol import encode_proxy_header
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import IAuthenticator, IRouter
from esxiproxy.net.admission.admission import Admission
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.upstream.connector import Connector, P


class Gateway:
    """The authenticator, router, limits and connector of one listener."""

    def __init__(
        self,
        authenticator: IAuthenticator,
        router: IRouter,
        connector: Connector,
        admission: Admission,
        connection_limits: ConnectionLimits,
    ) -> None:
        self.admission = admission
        self.connection_limits = connection_limits
        self._authenticator = authenticator
        self._router = router
        self._connector = connector

    async def decide(self, session: Session) -> tuple[Principal, Route]:
        """Return the client's principal and the route of the session.

        The authenticator and the router have ``decision_timeout`` seconds each.  Raises a SessionError when
        the client is refused or a deadline expires.
        """
        await self.admission.take_arrival_slots(session, self.connection_limits)
        principal, route = await self._decide_in_time(session)
        await self.admission.take_decision_slots(
            session, route.console, self._connection_limits_of(route.upstream)
        )
        return principal, route

    async def _decide(
        self, session: Session, decision: Deferred[tuple[Principal, Route]]
    ) -> tuple[Principal, Route]:
        """Ask the authenticator, and then the router unless the decision was given up meanwhile."""
        principal = await self._authenticator.authenticate(session.request)
        if decision.called:  # the authenticator has ignored its cancellation
            raise CancelledError
        session.authenticated(principal)
        route = await self._router.route(session.request, principal)
        if decision.called:
            raise CancelledError
        session.routed(route)
        return principal, route

    def _decide_in_time(self, session: Session) -> Deferred[tuple[Principal, Route]]:
        """Return the decision, or fail with DecisionTimeout, even if a plugin ignores its cancellation."""
        deciding: Deferred[tuple[Principal, Route]]
        result: Deferred[tuple[Principal, Route]] = Deferred(lambda _: give_up(CancelledError()))
        seconds = session.limits.decision_timeout
        deadline: IDelayedCall

        def give_up(error: Exception) -> None:
            result.errback(error)
            deciding.cancel()

        def expire() -> None:
            nonlocal deadline
            asked = "authenticator" if session.principal is None else "router"
            if asked == "router" and (rest := seconds - session.since("authenticated")) > 0:
                deadline = self.admission.clock.callLater(rest, expire)  # the router has its own deadline
                return
            give_up(
                DecisionTimeout(
                    f"the {asked} did not answer within {seconds:g} s", timeout="decision_timeout"
                )
            )

        def decided(outcome: Any) -> None:
            if not result.called:
                result.callback(outcome)

        def disarm(outcome: Any) -> Any:
            if deadline.active():
                deadline.cancel()
            return outcome

        deciding = Deferred.fromCoroutine(self._decide(session, result))
        if deciding.called:
            return deciding
        deadline = self.admission.clock.callLater(seconds, expire)
        deciding.addBoth(decided)
        return result.addBoth(disarm)

    def _connection_limits_of(self, upstream: Upstream) -> ConnectionLimits:
        return self.connection_limits.overridden_by(upstream.quotas)

    async def connect(
        self, session: Session, upstream: Upstream, make: Callable[[UpstreamTLS | None], P]
    ) -> P:
        """Acquire a connection slot of this upstream, and connect the protocol that ``make`` builds.

        Raises a SessionError.  If this fails or is cancelled, the slot is released and no connection is left.
        """
        slot = await self.admission.take_connection_slot(
            session, upstream, self._connection_limits_of(upstream)
        )
        with slot.released_on_error():
            header = self.proxy_header(session, upstream)
            dialling = self._connector.connect(upstream, make, session.limits, header, slot)
        return await dialling

    def proxy_header(self, session: Session, upstream: Upstream) -> bytes:
        """Return the PROXY header for a connection to this upstream; empty if the upstream expects none."""
        version = upstream.send_proxy_protocol
        if version is None:
            return b""
        return encode_proxy_header(version, session.request.client, session.request.listening)

    def claim_names(self, session: Session, upstream: Upstream) -> tuple[str, ...]:
        """Return the names of the claims that a connection to this upstream for this session needs."""
        claims = self._connection_limits_of(upstream).on_dial(upstream, session.request)
        return tuple(claim.name for claim in claims)

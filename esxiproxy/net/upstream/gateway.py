"""Decides who a client is and where its session goes, and connects to the upstream."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

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
        decision = _Decision(session, self._authenticator, self._router, self.admission.clock)
        principal, route = await decision.start()
        await self.admission.take_decision_slots(
            session, route.console, self._connection_limits_of(route.upstream)
        )
        return principal, route

    def _connection_limits_of(self, upstream: Upstream) -> ConnectionLimits:
        return self.connection_limits.overridden_by(upstream.connection_limits)

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


class _Decision:
    """The decision on one session: the principal, and then the route, each within ``decision_timeout``."""

    def __init__(
        self, session: Session, authenticator: IAuthenticator, router: IRouter, clock: IReactorTime
    ) -> None:
        self._session = session
        self._authenticator = authenticator
        self._router = router
        self._clock = clock
        self._is_over = False
        self._deciding: Deferred[tuple[Principal, Route]] | None = None
        self._result: Deferred[tuple[Principal, Route]] | None = None
        self._deadline: IDelayedCall | None = None

    def start(self) -> Deferred[tuple[Principal, Route]]:
        """Return the decision, or fail with DecisionTimeout, even if a plugin ignores its cancellation."""
        deciding = Deferred.fromCoroutine(self._decide())
        if deciding.called:
            return deciding
        self._deciding = deciding
        result: Deferred[tuple[Principal, Route]] = Deferred(lambda _: self._give_up(CancelledError()))
        self._result = result
        self._deadline = self._clock.callLater(self._session.limits.decision_timeout, self._expire)
        deciding.addBoth(self._finish)
        return result

    async def _decide(self) -> tuple[Principal, Route]:
        """Ask the authenticator, and then the router unless the decision was given up meanwhile."""
        session = self._session
        principal = await self._authenticator.authenticate(session.request)
        self._check_over()
        session.authenticated(principal)
        route = await self._router.route(session.request, principal)
        self._check_over()
        session.routed(route)
        return principal, route

    def _check_over(self) -> None:
        if self._is_over:  # the plugin has ignored its cancellation
            raise CancelledError

    def _expire(self) -> None:
        session, seconds = self._session, self._session.limits.decision_timeout
        asked = "authenticator" if session.principal is None else "router"
        if asked == "router" and (rest := seconds - session.since("authenticated")) > 0:
            self._deadline = self._clock.callLater(rest, self._expire)  # the router has its own deadline
            return
        message = f"the {asked} did not answer within {seconds:g} s"
        self._give_up(DecisionTimeout(message, timeout="decision_timeout"))

    def _give_up(self, error: Exception) -> None:
        deciding = self._deciding
        self._finish(Failure(error))
        if deciding is not None:
            deciding.cancel()

    def _finish(self, outcome: tuple[Principal, Route] | Failure) -> None:
        """Pass on the outcome, and keep nothing that would be a reference cycle."""
        result, self._result, self._deciding = self._result, None, None
        deadline, self._deadline = self._deadline, None
        self._is_over = True
        if deadline is not None and deadline.active():
            deadline.cancel()
        if result is not None:
            result.callback(outcome)

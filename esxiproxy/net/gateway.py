"""The role that admits a client and dials for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from esxiproxy.core.errors import DecisionTimeout
from esxiproxy.core.fields import view_of
from esxiproxy.core.handshake import Upgrade, offered_upstream, opening_fields
from esxiproxy.core.proxyprotocol import announce
from esxiproxy.core.quota import Quotas
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session import Session
from esxiproxy.interfaces import IAuthenticator, IRouter
from esxiproxy.net.admission import Admission
from esxiproxy.net.backend import Backend, Opening, new_key
from esxiproxy.net.connector import Connector
from esxiproxy.net.http_upstream import HttpUpstream


class Gateway:
    """Who may, where to, and the connection: the decisions of one listener."""

    def __init__(
        self,
        authenticator: IAuthenticator,
        router: IRouter,
        connector: Connector,
        admission: Admission,
        quotas: Quotas,
    ) -> None:
        self.admission = admission
        self.quotas = quotas
        self._authenticator = authenticator
        self._router = router
        self._connector = connector

    async def admit(self, session: Session, upgrade: Upgrade) -> Backend:
        """The open upstream leg for this session.

        Raises a SessionError for every failure that has a name; nothing stays open when it raises or is
        cancelled.  Nothing is awaited after the connect, so that no frame arrives between the upstream's 101
        and the join.
        """
        principal, route = await self.decide(session)
        request = session.request
        offered = offered_upstream(upgrade, route.upstream)
        key = new_key()
        opening = Opening(
            target=request.head.target if route.target is None else route.target,
            fields=tuple(opening_fields(request, route, principal, offered, key)),
            key=key,
            offered=offered,
            view=view_of(request, route.upstream),
            max_frame=session.limits.max_frame,
            announced=self.announcement(session, route.upstream),
        )
        slot = await self.admission.connection(session, route.upstream, self._quotas_of(route.upstream))
        with slot.kept():
            dialling = self._connector.connect(route.upstream, opening, session.limits, slot)
        return await dialling

    async def decide(self, session: Session) -> tuple[Principal, Route]:
        """Return who asks, and where to; raises a SessionError when the answer is no.

        The authenticator and the router have ``decision_timeout`` each, whatever they wait for.
        """
        await self.admission.arrive(session, self.quotas)
        principal, route = await self._in_time(session, Deferred.fromCoroutine(self._decide(session)))
        await self.admission.decided(session, route.console, self._quotas_of(route.upstream))
        return principal, route

    async def _decide(self, session: Session) -> tuple[Principal, Route]:
        principal = await self._authenticator.authenticate(session.request)
        session.authenticated(principal)
        route = await self._router.route(session.request, principal)
        session.routed(route)
        return principal, route

    def _in_time(
        self, session: Session, deciding: Deferred[tuple[Principal, Route]]
    ) -> Deferred[tuple[Principal, Route]]:
        """Return what ``deciding`` comes to, or fail with DecisionTimeout, even if it cannot be cancelled."""
        if deciding.called:
            return deciding
        result: Deferred[tuple[Principal, Route]] = Deferred(lambda _: deciding.cancel())
        seconds = session.limits.decision_timeout
        deadline: IDelayedCall

        def late() -> None:
            nonlocal deadline
            asked = "authenticator" if session.principal is None else "router"
            if asked == "router" and (rest := seconds - session.since("authenticated")) > 0:
                deadline = self.admission.clock.callLater(rest, late)  # the router's own time is not over
                return
            error = DecisionTimeout(
                f"the {asked} did not answer within {seconds:g} s", timeout="decision_timeout"
            )
            result.errback(error)
            deciding.cancel()

        deadline = self.admission.clock.callLater(seconds, late)

        def decided(outcome: Any) -> None:
            if not result.called:
                result.callback(outcome)

        def over(outcome: Any) -> Any:
            if deadline.active():
                deadline.cancel()
            return outcome

        deciding.addBoth(decided)
        return result.addBoth(over)

    def _quotas_of(self, upstream: Upstream) -> Quotas:
        return self.quotas.overridden_by(upstream.quotas)

    def announcement(self, session: Session, upstream: Upstream) -> bytes:
        """The PROXY header that begins a connection to this upstream, empty where it wants none."""
        version = upstream.send_proxy_protocol
        if version is None:
            return b""
        return announce(version, session.request.client, session.request.listening)

    def dial(self, session: Session, upstream: Upstream, announced: bytes) -> Deferred[HttpUpstream]:
        """A connection for plain HTTP; cancelling it leaves nothing behind."""
        return Deferred.fromCoroutine(self._dial(session, upstream, announced))

    async def _dial(self, session: Session, upstream: Upstream, announced: bytes) -> HttpUpstream:
        slot = await self.admission.connection(session, upstream, self._quotas_of(upstream))
        with slot.kept():
            dialling = self._connector.connect_http(upstream, session.limits, announced, slot)
        connection = await dialling
        connection.counted = slot.names
        return connection

    def counted(self, session: Session, upstream: Upstream) -> tuple[str, ...]:
        """Return the names under which a connection to this upstream for this request counts."""
        claims = self._quotas_of(upstream).on_dial(upstream, session.request)
        return tuple(claim.name for claim in claims)

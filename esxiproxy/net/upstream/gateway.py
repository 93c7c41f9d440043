"""Decides who a client is and where its session goes, and connects to the upstream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esxiproxy.core.proxy_protocol import encode_proxy_header
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.session import Session
from esxiproxy.net.admission.admission import Admission
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.upstream.connector import Connector, P
from esxiproxy.net.upstream.decision import Decision, Plugin


class Gateway:
    """The authenticators, routers, limits and connector of one listener."""

    def __init__(
        self,
        authenticators: Sequence[Plugin],
        routers: Sequence[Plugin],
        connector: Connector,
        admission: Admission,
        connection_limits: ConnectionLimits,
    ) -> None:
        self.admission = admission
        self.connection_limits = connection_limits
        self._authenticators = authenticators
        self._routers = routers
        self._connector = connector

    async def decide(self, session: Session) -> tuple[Principal, Route]:
        """Return the client's principal and the route of the session.

        Each authenticator and each router has ``decision_timeout`` seconds.  Raises a SessionError when the
        client is refused or a deadline expires.
        """
        await self.admission.take_arrival_slots(session, self.connection_limits)
        decision = Decision(session, self._authenticators, self._routers, self.admission.clock)
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

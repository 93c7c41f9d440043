"""Opens a console: from the routing decision to the upstream's 101."""

from __future__ import annotations

from functools import partial

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.fields import rewriter_for
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.session import Session
from esxiproxy.core.websocket.handshake import Upgrade, offered_upstream, opening_fields
from esxiproxy.net.console.backend import Backend, BackendFactory, OpeningRequest, new_key
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.upstream.gateway import Gateway


async def open_backend(
    gateway: Gateway, session: Session, upgrade: Upgrade, factory: BackendFactory
) -> Backend:
    """Authenticate and route the session, connect to its upstream, and return the open upstream leg.

    Raises a SessionError.  No connection stays open when it raises or is cancelled.  Nothing is awaited after
    ``connect``, so that no frame is received before the relay has joined the legs.
    """
    principal, route = await gateway.decide(session)
    request = session.request

    def make(upstream: Upstream, tls: UpstreamTLS | None) -> Backend:
        current = session.route or route
        offered = offered_upstream(upgrade, upstream)
        key = new_key()
        opening = OpeningRequest(
            target=request.head.target if current.target is None else current.target,
            fields=tuple(opening_fields(request, upstream, principal, offered, key)),
            key=key,
            offered=offered,
            view=partial(rewriter_for, request, upstream, current.prefix),
            max_frame=session.limits.max_frame,
        )
        return Backend(opening, factory, tls)

    try:
        backend = await gateway.connect(session, route.destination, make)
    except SessionError:
        await gateway.admission.return_marks(session)
        raise
    gateway.answered(backend, 101)
    return backend

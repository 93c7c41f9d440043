"""Asks the authenticators of [admin] about a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esxiproxy.admin.access import Arrival, Unauthenticated
from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.sessions import session_id
from esxiproxy.net.upstream.decision import Decision, Plugin

LISTENER = "admin"
"""The name of the listener in the requests that the authenticators get."""


class AdminLogin:
    """The authenticators of [admin], which are asked as those of a listener are."""

    def __init__(self, authenticators: Sequence[Plugin], limits: SessionLimits, clock: Any) -> None:
        self._authenticators = authenticators
        self._limits = limits
        self._clock = clock

    async def authenticate(self, arrival: Arrival) -> Principal:
        """Return the principal of a request.  Raises Unauthenticated."""
        head = RequestHead(b"", arrival.method, arrival.target, (1, 1), arrival.fields)
        request = Request(session_id(), LISTENER, arrival.client, arrival.secure, head)
        session = Session(request, self._limits, self._clock.seconds, Kind.HTTP)
        try:
            return await Decision(session, self._authenticators, (), self._clock).authenticate()
        except SessionError as error:
            raise Unauthenticated(error.status_code, error.public_message, error.fields) from None

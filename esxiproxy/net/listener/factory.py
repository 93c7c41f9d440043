"""What all connections of one listener share."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory

from esxiproxy.core.http.policy import ListenerPolicy
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.console.frontend import FrontendFactory
from esxiproxy.net.listener.dispatch import Dispatch
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.upstream.gateway import Gateway


class ListenerFactory(Factory):
    """The protocols of one listener: what is common to all of its connections.

    ``clock`` is a reactor, or a Clock in tests; TLS is around it, not in it.
    """

    noisy = False

    def __init__(
        self,
        name: str,
        gateway: Gateway,
        sessions: Sessions,
        limits: SessionLimits,
        clock: Any,
        edge: ListenerPolicy | None = None,
    ) -> None:
        self.name = name
        self.gateway = gateway
        self.sessions = sessions
        self.limits = limits
        self.clock = clock
        self.edge = edge or ListenerPolicy()
        self.frontends = FrontendFactory(clock)
        self.discarding: set[Any] = set()
        """Connections whose client goes on sending after its last answer."""

    def buildProtocol(self, addr: Any) -> Any:
        return Dispatch(self)

"""The factory for the connections of one listener."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory

from esxiproxy.core.http.policy import ListenerPolicy
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.console.frontend import FrontendFactory
from esxiproxy.net.listener.dispatch import Dispatch
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.upstream.gateway import Gateway


class ListenerFactory(Factory):
    """The factory of one listener, and the objects that all its connections share.

    ``clock`` is a reactor, or a Clock in tests.  For TLS, another factory is wrapped around this one.
    """

    noisy = False

    def __init__(
        self,
        name: str,
        gateway: Gateway,
        sessions: Sessions,
        limits: SessionLimits,
        clock: IReactorTime,
        policy: ListenerPolicy | None = None,
    ) -> None:
        self.name = name
        self.gateway = gateway
        self.sessions = sessions
        self.limits = limits
        self.clock = clock
        self.policy = policy or ListenerPolicy()
        self.frontends = FrontendFactory(clock)
        self.discarding: set[Any] = set()
        """Connections whose client sends more after the last response."""

    def buildProtocol(self, addr: Any) -> Any:
        return Dispatch(self)

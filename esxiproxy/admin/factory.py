"""The protocol factory of an address of the admin service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.protocols.policies import WrappingFactory
from twisted.web import resource, server

from esxiproxy.admin.connections import AdminConnection
from esxiproxy.admin.site import AdminRequest, Root

MAX_CONNECTIONS = 256
"""Connections to one address of the admin service."""
_IDLE_TIMEOUT = 60


class _Site(server.Site):
    """A site without an access log: actions are in the audit log."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Write nothing."""


class AdminFactory(WrappingFactory):
    """The factory of one address: accepts a limited number of connections, all served by its current root.

    A reload replaces the root, also for the connections that are open.  Before ``serve`` connections are
    closed at once.
    """

    noisy = False
    protocol = AdminConnection

    def __init__(self, reactor: Any) -> None:
        self.clock = reactor
        self._site: Any = _Site(
            resource.Resource(), requestFactory=AdminRequest, timeout=_IDLE_TIMEOUT, reactor=reactor
        )
        super().__init__(self._site)
        self.root: Root | None = None

    def serve(self, root: Root, secured: Callable[[Any], Any] | None = None) -> None:
        """Serve all connections by a root.  ``secured`` adds TLS to the factory for new connections."""
        before, self.root = self.root, root
        self._site.resource = root
        inner, self.wrappedFactory = (
            self.wrappedFactory,
            self._site if secured is None else secured(self._site),
        )
        if self.numPorts:
            self.wrappedFactory.doStart()
            inner.doStop()
        if before is not None:
            root.take_over(before)

    def buildProtocol(self, address: Any) -> Any:
        if self.root is None or (len(self.protocols) >= MAX_CONNECTIONS and not self._close_idle()):
            return None
        return super().buildProtocol(address)

    def unregisterProtocol(self, protocol: Any) -> None:
        """Forget a connection that has ended, if it was not forgotten when it was aborted."""
        self.protocols.pop(protocol, None)

    def _close_idle(self) -> bool:
        """Abort the connection that has had no request for the longest time; return whether there is one.

        Otherwise clients that send nothing keep out the probes of an orchestrator, which then ends the proxy.
        """
        idle: list[Any] = [each for each in self.protocols if each.waiting_since is not None]
        if not idle:
            return False
        longest = min(idle, key=lambda each: each.waiting_since)
        self.unregisterProtocol(longest)
        longest.abort()
        return True

    def close_connections(self, abort: bool) -> None:
        """Close all connections, after their data or at once."""
        for protocol in list(self.protocols):
            transport: Any = protocol.transport
            if abort:
                transport.abortConnection()
            else:
                transport.loseConnection()

"""Connects to an upstream: to its address, or to the first address of its name that accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IDelayedCall, IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from esxiproxy.core.routing import Upstream
from esxiproxy.net.transport.interfaces import family_of
from esxiproxy.net.transport.stream import hand_over
from esxiproxy.net.transport.tcp import TCPStream
from esxiproxy.net.upstream.names import Found, NameResolver

Failed = Callable[[Failure], None]
Stop = Callable[[], None]
"""Cancels an attempt to connect; does nothing once the connection is made."""


def dial(
    reactor: Any,
    clock: Any,
    names: NameResolver,
    upstream: Upstream,
    timeout: float,
    factory: Any,
    protocol: Any,
    failed: Failed,
) -> Stop:
    """Connect the ``protocol`` that ``factory`` builds to the upstream, and return a call that cancels it.

    A host name is resolved first, and its addresses are tried in turn, 0.3 s apart.  An IP address is dialled
    directly.  Each connection attempt has ``timeout`` seconds on ``clock``.  ``failed`` is called with the
    reason when no connection can be made.
    """
    host, port = upstream.host, upstream.port
    if family_of(host) is not None:
        attempt = _Attempt(clock, factory, failed)
        attempt.start(reactor, host, port, timeout)
        return attempt.stop

    def connect(found: Found) -> Any:
        return HostnameEndpoint(_Resolved(reactor, clock, found), host, port, timeout).connect(factory)

    dialling: Any = names.look_up(host)
    dialling.addCallback(connect)
    dialling.addCallbacks(lambda _: _detach_endpoint(protocol), failed)
    return dialling.cancel


class _Resolved:
    """A reactor for ``HostnameEndpoint`` whose resolver returns addresses that are already known.

    Its timers, and the deadline of each connection attempt, run on ``clock``.
    """

    def __init__(self, reactor: Any, clock: Any, found: Found) -> None:
        self._reactor = reactor
        self._clock = clock
        self._found = found
        self.nameResolver = self
        self.callLater = clock.callLater
        self.seconds = clock.seconds
        directlyProvides(self, *providedBy(reactor), IReactorPluggableNameResolver, IHostnameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Start one connection attempt, and return its connector."""
        attempt = _EndpointAttempt(self._clock, factory, lambda _reason: None)
        return attempt.start(self._reactor, host, port, timeout, bindAddress)

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        """Pass the known addresses, with the port to dial, to the receiver."""
        receiver.resolutionBegan(self)
        for address in self._found:
            receiver.addressResolved(type(address)("TCP", address.host, portNumber))
        receiver.resolutionComplete()
        return self


class _Attempt(ClientFactory):
    """An attempt to connect to one address, with its deadline.

    Used in place of Twisted's endpoints, which wrap each protocol and query all its interfaces.  The
    reactor's connectors have a deadline too, but it runs on the reactor and not on the clock.
    """

    noisy = False
    connector: Any = None
    """The reactor's connector until the attempt has ended; None after that, to avoid a reference cycle."""

    def __init__(self, clock: Any, factory: Any, failed: Failed) -> None:
        self._clock = clock
        self._factory = factory
        self._failed = failed
        self._deadline: IDelayedCall | None = None
        self._timed_out = False

    def start(self, reactor: Any, host: str, port: int, seconds: float, bind: Any = None) -> Any:
        """Connect to the address within so many seconds, and return the connector."""
        self._deadline = self._clock.callLater(seconds, self._expire)
        try:
            self.connector = connector = reactor.connectTCP(host, port, self, None, bind)
        except BaseException:
            self._ended()
            raise
        return connector

    def stop(self) -> None:
        """Cancel the attempt; a connection that is already made belongs to its protocol."""
        connector = self.connector
        self._ended()
        if connector is not None:
            connector.stopConnecting()

    def _expire(self) -> None:
        self._timed_out = True
        if self.connector is not None:
            self.connector.stopConnecting()

    def _ended(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        self.connector = None

    def buildProtocol(self, addr: Any) -> Any:
        self._ended()
        return self._factory.buildProtocol(addr)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._ended()
        self._report(connector, Failure(TimeoutError()) if self._timed_out else reason)

    def _report(self, connector: Any, reason: Failure) -> None:
        self._failed(reason)


class _EndpointAttempt(_Attempt):
    """An attempt of a ``HostnameEndpoint``, whose own factory receives every event."""

    def startedConnecting(self, connector: Any) -> None:
        self._factory.startedConnecting(connector)

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self._factory.clientConnectionLost(connector, reason)

    def _report(self, connector: Any, reason: Failure) -> None:
        self._factory.clientConnectionFailed(connector, reason)


def _detach_endpoint(protocol: Any) -> None:
    """Make the protocol the transport's own.

    Twisted's endpoints wrap the protocol in one of theirs, which every read would pass through.
    """
    transport = protocol.transport
    if isinstance(transport, TCPStream):
        hand_over(transport, protocol, connect=False)

"""One connection on its way: to an address, or to whichever address of a name takes it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from esxiproxy.core.routing import Upstream
from esxiproxy.net.transport.interfaces import family_of
from esxiproxy.net.transport.tcp import TCPStream
from esxiproxy.net.upstream.names import Found, NameResolver

Failed = Callable[[Failure], None]
Stop = Callable[[], None]
"""Ends an attempt; once there is a connection, it does nothing."""


def dial(
    reactor: Any,
    names: NameResolver,
    upstream: Upstream,
    timeout: float,
    factory: Any,
    protocol: Any,
    failed: Failed,
) -> Stop:
    """Connect the ``protocol`` that this factory builds, or tell ``failed`` why not.

    A name is looked up first, and its addresses are tried in turn, 0.3 s apart.  An address is
    dialled directly.
    """
    host, port = upstream.host, upstream.port
    if family_of(host) is not None:
        direct = _Direct(factory, failed)
        direct.connector = reactor.connectTCP(host, port, direct, timeout)
        return direct.stop

    def connect(found: Found) -> Any:
        return HostnameEndpoint(_Resolved(reactor, found), host, port, timeout).connect(factory)

    dialling: Any = names.look_up(host)
    dialling.addCallback(connect)
    dialling.addCallbacks(lambda _: _alone(protocol), failed)
    return dialling.cancel


class _Resolved:
    """Stands for a reactor whose resolver has found these addresses already."""

    def __init__(self, reactor: Any, found: Found) -> None:
        self._reactor = reactor
        self._found = found
        self.nameResolver = self
        directlyProvides(self, *providedBy(reactor), IReactorPluggableNameResolver, IHostnameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        """Pass the addresses on, with the port that is to be dialled."""
        receiver.resolutionBegan(self)
        for address in self._found:
            receiver.addressResolved(type(address)("TCP", address.host, portNumber))
        receiver.resolutionComplete()
        return self


class _Direct(ClientFactory):
    """What is used here of Twisted's endpoints, which wrap each protocol and look for all its interfaces."""

    noisy = False
    connector: Any = None
    """While it is on its way: after that they would be a circle."""

    def __init__(self, factory: Any, failed: Failed) -> None:
        self._factory = factory
        self._failed = failed

    def stop(self) -> None:
        """Not after all; a connection that is made already is its protocol's."""
        if self.connector is not None:
            self.connector.stopConnecting()

    def buildProtocol(self, addr: Any) -> Any:
        self.connector = None
        return self._factory.buildProtocol(addr)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.connector = None
        self._failed(reason)


def _alone(protocol: Any) -> None:
    """Twisted's endpoints leave a protocol of theirs in between, which every read would pass through."""
    transport = protocol.transport
    if isinstance(transport, TCPStream):
        transport.protocol = protocol

"""One connection on its way: to an address, or to whichever address of a name takes it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from esxiproxy.core.routing import Upstream
from esxiproxy.net.transport.loop import family_of
from esxiproxy.net.transport.tcp import TCPStream

Failed = Callable[[Failure], None]
Stop = Callable[[], None]
"""Ends an attempt; once there is a connection, it does nothing."""


def attempt(
    reactor: Any, upstream: Upstream, timeout: float, factory: Any, protocol: Any, failed: Failed
) -> Stop:
    """Connect the ``protocol`` that this factory builds, or tell ``failed`` why not.

    A name is looked up in a thread, behind all other names, and its addresses are tried in turn, 0.3 s apart:
    an address is spared both.
    """
    host, port = upstream.host, upstream.port
    if family_of(host) is not None:
        direct = _Direct(factory, failed)
        direct.connector = reactor.connectTCP(host, port, direct, timeout)
        return direct.stop
    dialling = HostnameEndpoint(reactor, host, port, timeout).connect(factory)
    dialling.addCallbacks(lambda _: _alone(protocol), failed)
    return dialling.cancel


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

"""Connects a protocol to one IP address or unix socket, within its deadlines."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import error as neterror
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from esxiproxy.core.errors import (
    OutOfDescriptors,
    SessionError,
    UpstreamLost,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnresolved,
)
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.upstream.names import LookUpTimeout

_RESET = frozenset({errno.ECONNRESET, errno.EPIPE})
"""Errors of a socket whose connection was established and reset before the reactor handled it."""


class Dial(ClientFactory):
    """An attempt to connect a protocol, which lasts until ``opened`` of the protocol fires.

    ``factory`` makes the protocol of the transport, such as TLS with the protocol behind it.  It is None if
    that is the protocol itself.  ``slot`` is released if no connection is made.  ``connect_timeout`` is the
    deadline of the TCP connection, and ``seconds`` that of everything.

    Used in place of Twisted's endpoints, which wrap each protocol and query all its interfaces.  The
    reactor's connectors have a deadline too, but it runs on the reactor and not on the clock.
    """

    noisy = False

    def __init__(
        self,
        clock: Any,
        protocol: Any,
        factory: Any,
        upstream: Upstream,
        limits: SessionLimits,
        slot: Slot | None,
        seconds: float,
    ) -> None:
        self._clock = clock
        self._protocol = protocol
        self._factory = factory
        self._upstream = upstream
        self._limits = limits
        self._slot = slot
        self._end = clock.seconds() + seconds
        # One timer for both deadlines: it is armed again after the first, which few attempts reach.
        self._deadline: IDelayedCall | None = clock.callLater(
            min(limits.connect_timeout, seconds), self._expire
        )
        self._connector: Any = None
        """The reactor's connector while it connects; None after that, to avoid a reference cycle."""
        self._is_connecting = True
        self._has_connect_timeout = False
        self._given_up: BaseException | None = None

    def start(self, reactor: Any, host: str) -> Deferred[Any]:
        """Connect to an address, and return ``opened`` of the protocol, which fails with a SessionError.

        ``host`` is an IP address, or the absolute path of a unix socket, which has no port.  Cancelling the
        Deferred ends the attempt.
        """
        opened: Deferred[Any] = self._protocol.opened
        opened.addBoth(self._done)
        try:
            if host.startswith("/"):
                connector = reactor.connectUNIX(host, self, None)
            else:
                connector = reactor.connectTCP(host, self._upstream.port, self, None, None)
            if self._is_connecting:
                self._connector = connector
        except Exception:
            self._fail(Failure())
        return opened

    def doStart(self) -> None:
        """Do nothing: there is one connection at most."""

    def doStop(self) -> None:
        """Do nothing, see ``doStart``."""

    def buildProtocol(self, addr: Any) -> Any:
        self._is_connecting, self._connector = False, None
        factory, self._factory = self._factory, None
        return self._protocol if factory is None else factory.buildProtocol(addr)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._fail(Failure(neterror.TimeoutError()) if self._has_connect_timeout else reason)

    def _fail(self, failure: Failure) -> None:
        """Handle a connection that is not made."""
        self._is_connecting, self._connector = False, None
        if self._slot is not None:
            self._slot.release()
        protocol = self._protocol
        if protocol is not None and protocol.opened is not None:
            opened, protocol.opened = protocol.opened, None
            opened.errback(failure)

    def _expire(self) -> None:
        self._deadline = None
        left = self._end - self._clock.seconds()
        if left <= 0:
            protocol, waited = self._protocol, f"{self._limits.upstream_handshake_timeout:g} s"
            self._given_up = UpstreamTimeout(
                f"{where(self._upstream)} did not {protocol.step} within {waited}",
                timeout="upstream_handshake_timeout",
            )
            protocol.opened.cancel()
            return
        self._deadline = self._clock.callLater(left, self._expire)
        if self._is_connecting:
            self._has_connect_timeout = True
            if self._connector is not None:
                self._connector.stopConnecting()

    def _done(self, outcome: Any) -> Any:
        """End the attempt, and return the protocol or the failure with which ``opened`` has fired."""
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()
        self._protocol = self._factory = None
        connector, self._connector = self._connector, None
        if isinstance(outcome, Failure):
            if connector is not None:  # given up while it connects
                connector.stopConnecting()
            return Failure(self._given_up or session_error(outcome, self._upstream, self._limits))
        return outcome


def where(upstream: Upstream) -> str:
    """Return the name and the address of an upstream for a message."""
    return f"{upstream.name} ({upstream.authority})"


def session_error(failure: Failure, upstream: Upstream, limits: SessionLimits) -> BaseException:
    """Return the SessionError for a failure to connect; an unknown exception is returned as it is."""
    error: BaseException = failure.value
    name = where(upstream)
    if isinstance(error, SessionError):
        return error
    if isinstance(error, LookUpTimeout):
        return UpstreamTimeout(f"name look-up for {name} failed: {error.args[0]}")
    if isinstance(error, neterror.DNSLookupError):
        why = f": {error.args[0]}" if error.args and error.args[0] else ""
        return UpstreamUnresolved(f"host name of {name} has no address{why}")
    if isinstance(error, neterror.TimeoutError):
        waited = f"{limits.connect_timeout:g} s"
        return UpstreamTimeout(
            f"{name} did not accept the connection within {waited}", timeout="connect_timeout"
        )
    if isinstance(error, neterror.ConnectError):
        if error.osError in (errno.EMFILE, errno.ENFILE):
            return OutOfDescriptors("no file descriptor left for the connection to the upstream")
        if error.osError in _RESET:
            return UpstreamLost(f"{name} accepted the connection and reset it at once")
        return UpstreamRefused(f"{name} refused the connection")
    return error

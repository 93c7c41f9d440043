"""Connects to an upstream: name look-up, TCP, TLS and opening handshake, under one deadline."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet import error as neterror
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
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
from esxiproxy.net.tls.client import Contexts, UpstreamTLS
from esxiproxy.net.transport.stream import hand_over
from esxiproxy.net.transport.tls_start import TLSFactory
from esxiproxy.net.upstream.dial import Stop, dial
from esxiproxy.net.upstream.names import LookUpTimeout, NameResolver


class Dialled(Protocol):
    """The interface that the connector needs from a protocol that it connects.

    ``opened`` fires with the protocol when its connection can be used, and is None from then on.  ``step``
    is a phrase for the message of a timeout: what the upstream has to do before ``opened`` fires.
    """

    opened: Deferred[Any] | None
    slot: Slot | None

    @property
    def step(self) -> str: ...


P = TypeVar("P", bound=Dialled)

_REMEMBERED = 1024
"""Maximum number of upstreams outside the configuration whose TLS settings and session are cached.

A cached TLS session takes some KiB, and is resumed by the next connection to the upstream.
"""

_RESET = frozenset({errno.ECONNRESET, errno.EPIPE})
"""Errors of a socket whose connection was established and reset before the reactor handled it."""


class _DialFactory(Factory):
    """A factory that returns the one protocol of one dial."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol: Any = protocol

    def buildProtocol(self, addr: Any) -> Any:
        protocol, self._protocol = self._protocol, None
        return protocol


class _HeaderFactory(Factory):
    """A factory of protocols that send a PROXY header before TLS and before everything else."""

    noisy = False

    def __init__(self, factory: Any, header: bytes) -> None:
        self._factory = factory
        self._header = header

    def buildProtocol(self, addr: Any) -> Any:
        return _HeaderWriter(self._factory.buildProtocol(addr), self._header)


class _HeaderWriter(TwistedProtocol):
    """A protocol that sends the header and makes another one the protocol of the transport.

    It forwards the events of transports whose protocol cannot be replaced.
    """

    def __init__(self, protocol: Any, header: bytes) -> None:
        self._protocol = protocol
        self._header = header

    def makeConnection(self, transport: Any) -> None:
        transport.write(self._header)
        hand_over(transport, self._protocol)

    def dataReceived(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._protocol.connectionLost(reason)


class Connector:
    """A connector to upstreams, which builds the TLS settings of each upstream once.

    Those of upstreams in the configuration are kept; of other upstreams, the most recently used are cached.
    """

    def __init__(self, reactor: Any, names: NameResolver | None = None, clock: Any = None) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self._names = names or NameResolver(reactor, self._clock)
        self._prepared: dict[str, UpstreamTLS] = {}
        self._tls: OrderedDict[str, UpstreamTLS] = OrderedDict()
        self._contexts = Contexts()

    def prepare(self, upstream: Upstream) -> None:
        """Read the CA file of the upstream now, before ``twistd --uid`` drops the permission to do so.

        Raises TLSFileError.
        """
        if upstream.secure:
            self._prepared[upstream.name] = UpstreamTLS(upstream, self._contexts, keep=True)

    def connect(
        self,
        upstream: Upstream,
        make: Callable[[UpstreamTLS | None], P],
        limits: SessionLimits,
        proxy_header: bytes = b"",
        slot: Slot | None = None,
    ) -> Deferred[P]:
        """Connect the protocol that ``make`` builds, and return it when its connection can be used.

        ``make`` is called with the TLS settings of the upstream, or None if it has no TLS.  ``proxy_header``
        is sent first.  ``upstream_handshake_timeout`` is the deadline for all steps until the protocol's
        ``opened`` fires.  ``slot`` is released when the connection fails or ends.

        The Deferred fails with a SessionError.  Cancelling it closes the connection.
        """
        tls = self._tls_of(upstream)
        protocol = make(tls)
        protocol.slot = slot
        factory: Any = _DialFactory(protocol)
        if tls is not None:
            factory = TLSFactory(tls, True, factory, self._clock, tls.resumption)
        if proxy_header:
            factory = _HeaderFactory(factory, proxy_header)
        opened: Deferred[P] | None = protocol.opened
        assert opened is not None
        given_up: BaseException | None = None
        stop: Stop = _nothing_to_stop

        def expire() -> None:
            nonlocal given_up
            waited = f"{limits.upstream_handshake_timeout:g} s"
            given_up = UpstreamTimeout(
                f"{_where(upstream)} did not {protocol.step} within {waited}",
                timeout="upstream_handshake_timeout",
            )
            result.cancel()

        def cancel(_result: Deferred[P]) -> None:
            nonlocal given_up
            # The reason to report: a cancelled look-up fails with DNSLookupError.
            given_up = given_up or CancelledError()
            try:
                stop()
            finally:
                opened.cancel()

        def not_connected(failure: Failure) -> None:
            if slot is not None:
                slot.release()
            if protocol.opened is not None:
                protocol.opened = None
                opened.errback(failure)

        result: Deferred[P] = Deferred(cancel)
        deadline = self._clock.callLater(limits.upstream_handshake_timeout, expire)

        def done(outcome: Any) -> None:
            if deadline.active():
                deadline.cancel()
            if isinstance(outcome, Failure):
                outcome = Failure(given_up or _session_error(outcome, upstream, limits))
            if not result.called:
                result.callback(outcome)

        opened.addBoth(done)
        try:
            stop = dial(
                self._reactor,
                self._clock,
                self._names,
                upstream,
                limits.connect_timeout,
                factory,
                protocol,
                not_connected,
            )
        except Exception:
            not_connected(Failure())
        return result

    def _tls_of(self, upstream: Upstream) -> UpstreamTLS | None:
        if not upstream.secure:
            return None
        name = upstream.name
        prepared = self._prepared.get(name)
        if prepared is not None and prepared.upstream == upstream:
            return prepared
        known = self._tls.get(name)
        if known is None or known.upstream != upstream:
            known = self._tls[name] = UpstreamTLS(upstream, self._contexts)
            if len(self._tls) > _REMEMBERED:
                self._tls.popitem(last=False)
        self._tls.move_to_end(name)
        return known


def _nothing_to_stop() -> None:
    """Do nothing: the attempt to connect has not begun yet."""


def _where(upstream: Upstream) -> str:
    return f"{upstream.name} ({upstream.authority})"


def _session_error(failure: Failure, upstream: Upstream, limits: SessionLimits) -> BaseException:
    """Return the SessionError for a failure to connect; an unknown exception is returned as it is."""
    error = failure.value
    where = _where(upstream)
    if isinstance(error, SessionError):
        return error
    if isinstance(error, LookUpTimeout):
        return UpstreamTimeout(f"name look-up for {where} failed: {error.args[0]}")
    if isinstance(error, neterror.DNSLookupError):
        why = f": {error.args[0]}" if error.args and error.args[0] else ""
        return UpstreamUnresolved(f"host name of {where} has no address{why}")
    if isinstance(error, neterror.TimeoutError):
        waited = f"{limits.connect_timeout:g} s"
        return UpstreamTimeout(
            f"{where} did not accept the connection within {waited}", timeout="connect_timeout"
        )
    if isinstance(error, neterror.ConnectError):
        if error.osError in (errno.EMFILE, errno.ENFILE):
            return OutOfDescriptors("no file descriptor left for the connection to the upstream")
        if error.osError in _RESET:
            return UpstreamLost(f"{where} accepted the connection and reset it at once")
        return UpstreamRefused(f"{where} refused the connection")
    return error

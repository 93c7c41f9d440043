"""Connects to one address of an upstream: TCP, TLS and opening handshake, under one deadline."""

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
from esxiproxy.core.networks import canonical
from esxiproxy.core.routing import Destination, Identity, TLSProfile, Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.tls.client import Contexts, UpstreamTLS
from esxiproxy.net.transport.stream import hand_over
from esxiproxy.net.transport.tls_start import TLSFactory
from esxiproxy.net.upstream.dial import Dial
from esxiproxy.net.upstream.health import Address, Health
from esxiproxy.net.upstream.names import LookUpTimeout, NameResolver


class Dialled(Protocol):
    """The interface that the connector needs from a protocol that it connects.

    ``opened`` fires with the protocol when its connection can be used, and is None from then on.  ``step``
    is a phrase for the message of a timeout: what the upstream has to do before ``opened`` fires.
    ``may_send`` is called when the host is verified, before the request is sent.  If it returns False the
    protocol sends nothing and fails.  ``address`` is the one of several addresses that it is connected to.
    """

    opened: Deferred[Any] | None
    slot: Slot | None
    may_send: Callable[[], bool]
    address: Address | None

    @property
    def step(self) -> str: ...


P = TypeVar("P", bound=Dialled)

_TLSKey = tuple[str, str, int, Identity, TLSProfile]
"""What the TLS settings of a host depend on: section, host, port, identity and TLS profile."""
_REMEMBERED = 1024
"""Maximum number of hosts outside the configuration whose TLS settings and session are cached.

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

    Those of upstreams in the configuration are kept; of other hosts, the most recently used are cached.
    """

    def __init__(
        self,
        reactor: Any,
        names: NameResolver | None = None,
        clock: Any = None,
        health: Health | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self.names = names or NameResolver(reactor, self._clock)
        self.health = health or Health(self._clock)
        self._prepared: dict[_TLSKey, UpstreamTLS] = {}
        self._tls: OrderedDict[_TLSKey, UpstreamTLS] = OrderedDict()
        self._contexts = Contexts()

    def prepare(self, upstream: Upstream) -> None:
        """Read the CA file of the upstream now, before ``twistd --uid`` drops the permission to do so.

        Raises TLSFileError.
        """
        for address in Destination.of(upstream).addresses if upstream.secure else ():
            one = Destination.of(upstream).upstream_at(address)
            self._prepared[_key(one)] = UpstreamTLS(one, self._contexts, keep=True)

    def connect(
        self,
        upstream: Upstream,
        host: str,
        make: Callable[[Upstream, UpstreamTLS | None], P],
        limits: SessionLimits,
        proxy_header: bytes = b"",
        slot: Slot | None = None,
        seconds: float | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Deferred[P]:
        """Connect the protocol that ``make`` builds, and return it when its connection can be used.

        ``host`` is the IP address or the path of the unix socket to dial.  ``make`` is called with the
        upstream and its TLS settings, which are None if it has no TLS.  ``proxy_header`` is sent first.
        ``seconds`` is the deadline for all steps until the protocol's ``opened`` fires, by default
        ``upstream_handshake_timeout``.  ``slot`` is released when the connection fails or ends.  ``may_send``
        is asked before the request is sent.

        The Deferred fails with a SessionError.  Cancelling it closes the connection.
        """
        tls = self._tls_of(upstream)
        protocol = make(upstream, tls)
        protocol.slot = slot
        if may_send is not None:
            protocol.may_send = may_send
            protocol.address = canonical(host), upstream.port
        factory: Any = _DialFactory(protocol)
        if tls is not None:
            factory = TLSFactory(tls, True, factory, self._clock, tls.resumption)
        if proxy_header:
            factory = _HeaderFactory(factory, proxy_header)
        opened: Deferred[P] | None = protocol.opened
        assert opened is not None
        given_up: BaseException | None = None

        def expire() -> None:
            nonlocal given_up
            waited = f"{limits.upstream_handshake_timeout:g} s"
            given_up = UpstreamTimeout(
                f"{where(upstream)} did not {protocol.step} within {waited}",
                timeout="upstream_handshake_timeout",
            )
            result.cancel()

        def cancel(_result: Deferred[P]) -> None:
            nonlocal given_up
            given_up = given_up or CancelledError()
            try:
                attempt.stop()
            finally:
                opened.cancel()

        def not_connected(failure: Failure) -> None:
            if slot is not None:
                slot.release()
            if protocol.opened is not None:
                protocol.opened = None
                opened.errback(failure)

        result: Deferred[P] = Deferred(cancel)
        attempt = Dial(self._clock, factory, not_connected)
        deadline = self._clock.callLater(
            limits.upstream_handshake_timeout if seconds is None else seconds, expire
        )

        def done(outcome: Any) -> None:
            if deadline.active():
                deadline.cancel()
            if isinstance(outcome, Failure):
                outcome = Failure(given_up or session_error(outcome, upstream, limits))
            if not result.called:
                result.callback(outcome)

        opened.addBoth(done)
        try:
            attempt.start(self._reactor, host, upstream.port, limits.connect_timeout)
        except Exception:
            not_connected(Failure())
        return result

    def _tls_of(self, upstream: Upstream) -> UpstreamTLS | None:
        if not upstream.secure:
            return None
        key = _key(upstream)
        prepared = self._prepared.get(key)
        if prepared is not None:
            return prepared
        known = self._tls.get(key)
        if known is None:
            known = self._tls[key] = UpstreamTLS(upstream, self._contexts)
            if len(self._tls) > _REMEMBERED:
                self._tls.popitem(last=False)
        self._tls.move_to_end(key)
        return known


def _key(upstream: Upstream) -> _TLSKey:
    return upstream.name, upstream.host, upstream.port, upstream.identity, upstream.tls_profile


def where(upstream: Upstream) -> str:
    """Return the name and the address of an upstream for a message."""
    return f"{upstream.name} ({upstream.authority})"


def session_error(failure: Failure, upstream: Upstream, limits: SessionLimits) -> BaseException:
    """Return the SessionError for a failure to connect; an unknown exception is returned as it is."""
    error = failure.value
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

"""Dials an upstream: address, TLS, identity and opening handshake, all under one deadline."""

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
    """A protocol that is dialled, as the connector needs it.

    ``opened`` fires with the protocol when its connection may be used, and is None from then on.  ``step``
    says what the upstream has to do until then, for the message of a timeout.
    """

    opened: Deferred[Any] | None
    slot: Slot | None

    @property
    def step(self) -> str: ...


P = TypeVar("P", bound=Dialled)

_REMEMBERED = 1024
"""Upstreams that a router has made up whose TLS is remembered, the last ones that were dialled.

Each has a TLS session, of some KiB, and the next connection to it resumes that session.
"""

_RESET = frozenset({errno.ECONNRESET, errno.EPIPE})
"""A socket's errors when its connection was made and ended before we looked; a refused one has its own."""


class _Dial(Factory):
    """Builds the one protocol of one dial."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol: Any = protocol

    def buildProtocol(self, addr: Any) -> Any:
        protocol, self._protocol = self._protocol, None
        return protocol


class _HeaderFactory(Factory):
    """Builds protocols whose connection begins with a PROXY header, before TLS."""

    noisy = False

    def __init__(self, factory: Any, header: bytes) -> None:
        self._factory = factory
        self._header = header

    def buildProtocol(self, addr: Any) -> Any:
        return _HeaderWriter(self._factory.buildProtocol(addr), self._header)


class _HeaderWriter(TwistedProtocol):
    """Writes the header and hands the connection over; a transport that keeps its protocol calls it still."""

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
    """Opens legs to upstreams.  What can be built once per upstream is: its TLS context above all.

    What the configuration's upstreams need is kept, and of those that a router makes up, the last ones.
    """

    def __init__(self, reactor: Any, names: NameResolver | None = None, clock: Any = None) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self._names = names or NameResolver(reactor, self._clock)
        self._prepared: dict[str, UpstreamTLS] = {}
        self._tls: OrderedDict[str, UpstreamTLS] = OrderedDict()
        self._contexts = Contexts()

    def prepare(self, upstream: Upstream) -> None:
        """Read its authorities now, while the process may: ``twistd --uid`` gives that right away."""
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
        """Return a Deferred of the protocol that ``make`` built, when its connection may be used.

        ``make`` is given what checks the upstream's certificate, or None without TLS.  The connection begins
        with ``proxy_header``.  Fails with a SessionError.  One deadline holds for everything up to the
        protocol's ``opened``.  Cancelling it leaves nothing behind.
        """
        tls = self._tls_of(upstream)
        protocol = make(tls)
        protocol.slot = slot
        factory: Any = _Dial(protocol)
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
            # Whatever they fail with now: a name that is being looked up says that it has no address.
            given_up = given_up or CancelledError()
            stop()
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
                outcome = Failure(given_up or _named(outcome, upstream, limits))
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
    """Stand for the cancellation of an attempt that has not begun."""


def _where(upstream: Upstream) -> str:
    return f"{upstream.name} ({upstream.authority})"


def _named(failure: Failure, upstream: Upstream, limits: SessionLimits) -> BaseException:
    """The failure's name in the error table.  What is not known there stays what it is: a bug of ours."""
    error = failure.value
    where = _where(upstream)
    if isinstance(error, SessionError):
        return error
    if isinstance(error, LookUpTimeout):
        return UpstreamTimeout(f"the look-up of the name of {where} had {error.args[0]}")
    if isinstance(error, neterror.DNSLookupError):
        why = f": {error.args[0]}" if error.args and error.args[0] else ""
        return UpstreamUnresolved(f"the name of {where} has no address{why}")
    if isinstance(error, neterror.TimeoutError):
        waited = f"{limits.connect_timeout:g} s"
        return UpstreamTimeout(
            f"{where} did not take the connection within {waited}", timeout="connect_timeout"
        )
    if isinstance(error, neterror.ConnectError):
        if error.osError in (errno.EMFILE, errno.ENFILE):
            return OutOfDescriptors("no file descriptor left to dial with")
        if error.osError in _RESET:
            return UpstreamLost(f"{where} took the connection and reset it at once")
        return UpstreamRefused(f"{where} takes no connection")
    return error

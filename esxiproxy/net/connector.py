"""Dials an upstream: address, TLS, identity and opening handshake, all under one deadline."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import error as neterror
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from esxiproxy.core.errors import (
    OutOfDescriptors,
    SessionError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnresolved,
)
from esxiproxy.core.limits import Limits
from esxiproxy.core.routing import Upstream
from esxiproxy.net.backend import Backend, BackendFactory, Opening
from esxiproxy.net.trust import UpstreamTLS


class _Dial(Factory):
    """Builds the one backend of one dial."""

    noisy = False

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def buildProtocol(self, addr: Any) -> Backend:
        return self._backend


class Connector:
    """Opens legs to upstreams.  What can be built once per upstream is: its TLS context above all."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._factory = BackendFactory(reactor)
        self._tls: dict[str, UpstreamTLS] = {}

    def connect(self, upstream: Upstream, opening: Opening, limits: Limits) -> Deferred[Backend]:
        """A backend whose opening handshake was accepted; fails with a SessionError.

        Cancelling it leaves nothing behind.
        """
        tls = self._tls_of(upstream)
        backend = Backend(opening, tls)
        backend.factory = self._factory
        factory: Any = _Dial(backend)
        if tls is not None:
            factory = TLSMemoryBIOFactory(tls, True, factory, clock=self._reactor)
            factory.noisy = False
        endpoint = HostnameEndpoint(
            self._reactor, upstream.host, upstream.port, timeout=limits.connect_timeout
        )
        opened = backend.opened
        assert opened is not None
        dialling = endpoint.connect(factory)
        timed_out = False

        def expire() -> None:
            nonlocal timed_out
            timed_out = True
            result.cancel()

        def cancel(_result: Deferred[Backend]) -> None:
            dialling.cancel()
            opened.cancel()

        def not_connected(failure: Failure) -> None:
            if backend.opened is not None:
                backend.opened = None
                opened.errback(failure)

        result: Deferred[Backend] = Deferred(cancel)
        deadline = self._reactor.callLater(limits.upstream_handshake_timeout, expire)

        def done(outcome: Any) -> None:
            if deadline.active():
                deadline.cancel()
            if isinstance(outcome, Failure):
                outcome = Failure(_named(outcome, upstream, limits, timed_out))
            if not result.called:
                result.callback(outcome)

        dialling.addErrback(not_connected)
        opened.addBoth(done)
        return result

    def _tls_of(self, upstream: Upstream) -> UpstreamTLS | None:
        if not upstream.secure:
            return None
        if upstream.name not in self._tls or self._tls[upstream.name].upstream != upstream:
            self._tls[upstream.name] = UpstreamTLS(upstream)
        return self._tls[upstream.name]


def _named(failure: Failure, upstream: Upstream, limits: Limits, timed_out: bool) -> BaseException:
    """The failure's name in the error table.  What is not known there stays what it is: a bug of ours."""
    error = failure.value
    where = f"{upstream.name} ({upstream.authority})"
    if isinstance(error, SessionError):
        return error
    if isinstance(error, CancelledError):
        if timed_out:
            waited = f"{limits.upstream_handshake_timeout:g} s"
            return UpstreamTimeout(f"{where} did not finish the opening handshake within {waited}")
        return error
    if isinstance(error, neterror.DNSLookupError):
        return UpstreamUnresolved(f"the name of {where} has no address")
    if isinstance(error, neterror.TimeoutError):
        return UpstreamTimeout(f"{where} did not take the connection within {limits.connect_timeout:g} s")
    if isinstance(error, neterror.ConnectError):
        if error.osError in (errno.EMFILE, errno.ENFILE):
            return OutOfDescriptors("no file descriptor left to dial with")
        return UpstreamRefused(f"{where} takes no connection")
    return error

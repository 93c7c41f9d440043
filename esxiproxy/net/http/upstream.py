"""The HTTP connection to an upstream, which belongs to one downstream connection."""

from __future__ import annotations

import typing
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import SessionError, UpstreamLost
from esxiproxy.core.http.request_writer import RequestWriter
from esxiproxy.core.routing import Destination, Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.slot import SlotOwner
from esxiproxy.net.http.flow_control import HttpFlow
from esxiproxy.net.sockets.idle_timer import IdleTimer
from esxiproxy.net.sockets.linger import Linger
from esxiproxy.net.sockets.tcp_keepalive import keep_alive
from esxiproxy.net.tls.client import UpstreamTLS


class AnswerReceiver(typing.Protocol):
    """The exchange on an upstream connection, as the connection reports to it."""

    def answer_received(self, octets: bytes) -> None:
        """Handle bytes from the upstream."""

    def upstream_lost(self, clean: bool, tls_error: SessionError | None = None) -> None:
        """Handle the end of the connection; ``clean`` is whether it ended with a FIN."""


@implementer(IHandshakeListener)
class HttpUpstream(SlotOwner, Protocol):
    """A connection to an upstream, used by one exchange at a time.

    ``opened`` fires with this object when a request may be written: after the TCP connect, and with TLS
    after the certificate was verified.  It fails with a SessionError.  ``exchange`` is the current exchange.
    ``reused`` is whether an exchange has used the connection before.  ``upstream`` has the settings of the
    address that it is connected to.  ``requests`` writes the heads of the requests.
    """

    transport: Any
    flow: HttpFlow

    def __init__(
        self,
        destination: Destination,
        limits: SessionLimits,
        clock: IReactorTime,
        proxy_header: bytes,
        upstream: Upstream,
        tls: UpstreamTLS | None,
    ) -> None:
        self.destination = destination
        self.upstream = upstream
        self.requests = RequestWriter(upstream)
        self.proxy_header = proxy_header
        self.may_send: Callable[[], bool] = lambda: True
        self.address: tuple[str, int] | None = None
        self.exchange: AnswerReceiver | None = None
        self.reused = False
        self.lost = False
        self._limits = limits
        self._tls = tls
        self._clock = clock
        self._linger: Linger | None = None
        self._idle_timer = IdleTimer(clock, limits.keepalive_timeout)
        self._is_closing = False
        self.opened: Deferred[HttpUpstream] | None = Deferred(self._cancelled)

    @property
    def step(self) -> str:
        return "accept the connection" if self._tls is None else "finish the TLS handshake"

    @property
    def claim_names(self) -> tuple[str, ...]:
        """The names of the claims under which the connection counts, among them those of one client."""
        return () if self.slot is None else self.slot.names

    def connectionMade(self) -> None:
        with suppress(AttributeError, OSError):  # a unix socket or a test's transport
            self.transport.setTcpNoDelay(True)
        keep_alive(self.transport, self._limits.tcp_keepalive)
        if self._tls is None:
            self._open()

    def handshakeCompleted(self) -> None:
        """Verify the upstream's certificate before a byte of the request is sent."""
        assert self._tls is not None
        try:
            self._tls.verify_peer(self.transport)
        except SessionError as error:
            self._fail(error)
        else:
            self._open()

    def _open(self) -> None:
        if self.opened is not None and not self.may_send():
            self._fail(UpstreamLost("another address of the upstream was faster"))
            return
        opened, self.opened = self.opened, None
        if opened is None:
            return
        self.flow = HttpFlow(self.transport, self._clock, self._limits.stall_timeout)
        self.flow.install()
        opened.callback(self)

    def dataReceived(self, data: bytes) -> None:
        if self.exchange is not None:
            self.exchange.answer_received(data)
        elif not self._is_closing:  # there was no request
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.lost = True
        self._cancel_timers()
        tls_error = self._tls.explain(reason.value) if self._tls is not None else None
        if self.opened is not None:
            self._fail(
                tls_error or UpstreamLost("the upstream closed the connection before a request was sent")
            )
            return
        if hasattr(self, "flow"):
            self.flow.lost()
        if self.exchange is not None:
            self.exchange.upstream_lost(bool(reason.check(ConnectionDone)), tls_error)

    def _fail(self, error: SessionError) -> None:
        opened, self.opened = self.opened, None
        self.abort()
        if opened is not None:
            opened.errback(Failure(error))

    def _cancelled(self, _opened: Deferred[HttpUpstream]) -> None:
        self.opened = None
        self.abort()

    # Between two exchanges

    def release(self) -> None:
        """End the use by an exchange; close after ``keepalive_timeout`` without another one."""
        self.exchange = None
        self.reused = True
        self.flow.unobserve()
        self.flow.resume()
        self._idle_timer.start(self.close)

    def acquire(self, exchange: AnswerReceiver) -> None:
        """Begin the use by ``exchange``."""
        self._idle_timer.stop()
        self.exchange = exchange

    def fits(self, destination: Destination, proxy_header: bytes, claim_names: tuple[str, ...]) -> bool:
        """Return whether an exchange with this destination, counted under these names, may use it."""
        if self.lost or self._is_closing or self.proxy_header != proxy_header:
            return False
        if self.destination is not destination and self.destination != destination:
            return False
        return tuple([name for name in self.claim_names if name.startswith("http client ")]) == claim_names

    def close(self) -> None:
        """Close the connection, and abort it after ``close_timeout``."""
        if self.lost or self._is_closing:
            return
        self._is_closing = True
        self.exchange = None
        self._cancel_timers()
        self.flow.remove()
        self._linger = Linger(self.transport, self._clock, self._limits.close_timeout)

    def abort(self) -> None:
        """Abort the connection."""
        self.exchange = None
        self._is_closing = True
        self._cancel_timers()
        if not self.lost and self.transport is not None:
            self.transport.abortConnection()

    def _cancel_timers(self) -> None:
        self._idle_timer.cancel()
        if self._linger is not None and self._linger.active():
            self._linger.cancel()

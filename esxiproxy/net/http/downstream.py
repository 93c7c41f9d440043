"""The downstream connection of plain HTTP, which carries one exchange after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.routing import Destination
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import MAX_EARLY
from esxiproxy.net.http.deadlines import HttpDeadlines
from esxiproxy.net.http.exchange import Exchange
from esxiproxy.net.http.flow_control import HttpFlow, PauseReason
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.sockets.idle_timer import IdleTimer
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.upstream.gateway import Gateway


class HttpDownstream:
    """A client's connection that serves one request at a time, and keeps one idle upstream connection.

    ``idle_timer`` ends the connection after ``keepalive_timeout`` without a request.
    ``ready`` is called when the next request head may be read, with the bytes that were received after the
    last request.  ``close`` is called when the connection is to be closed.  ``epoch`` is the epoch of
    ``sessions`` in which the connection was accepted.
    """

    def __init__(
        self,
        transport: Any,
        gateway: Gateway,
        sessions: Sessions,
        clock: IReactorTime,
        keepalive_timeout: float,
        ready: Callable[[bytes], None],
        close: Callable[[], None],
        epoch: int,
    ) -> None:
        self.transport = transport
        self.gateway = gateway
        self.sessions = sessions
        self.clock = clock
        self.flow = HttpFlow(transport, clock, 0.0)
        self.deadlines = HttpDeadlines(self.flow, clock)
        self.idle_timer = IdleTimer(clock, keepalive_timeout)
        with suppress(AttributeError, OSError):  # a unix socket or a test's transport
            transport.setTcpNoDelay(True)
        self._on_ready = ready
        self._close = close
        self._epoch = epoch
        self._idle: HttpUpstream | None = None
        self._exchange: Exchange | None = None
        self._held = b""
        self._flushing = False
        """Whether bytes of the last response are in the transport's write buffer."""

    @property
    def busy(self) -> bool:
        """Whether received bytes belong to the current request, or are buffered behind it."""
        return self._exchange is not None or self._flushing

    @property
    def is_last(self) -> bool:
        """Whether the connection is closed after the current request."""
        sessions = self.sessions
        return sessions.retiring or self._epoch != sessions.epoch

    def serve(self, session: Session, rest: bytes) -> None:
        """Forward the request of ``session``; ``rest`` was received after its head.

        Raises a SessionError for a request that is refused without an upstream.
        """
        exchange = Exchange(session, self)
        self._exchange = exchange
        self.flow.install()
        self.sessions.wait_for_flush(self)  # a drain must not end between the record and the last write
        exchange.start(rest)

    def received(self, octets: bytes) -> None:
        """Handle bytes that were received while the connection is busy."""
        if self._exchange is not None:
            self._exchange.request_received(octets)
            return
        self._held += octets
        if len(self._held) > MAX_EARLY:
            self.flow.set_paused(PauseReason.HELD, True)

    def lost(self) -> None:
        """Handle the end of the client's connection."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        self.deadlines.stop()
        self.idle_timer.cancel()
        self.flow.lost()
        self.sessions.flushed(self)
        self._close_idle()

    def stop(self) -> None:
        """Serve no more HTTP, since the connection becomes a WebSocket or is closed."""
        self._exchange = None
        self.deadlines.stop()
        self.idle_timer.cancel()
        self.flow.remove()
        self._close_idle()

    def is_flushed(self) -> bool:
        """Return whether no request is unanswered, and the client has acknowledged the last response."""
        return not self.busy and not unsent_bytes(self.transport)

    def abort(self) -> None:
        """Abort the connection."""
        self.transport.abortConnection()

    # Events of the exchange

    def exchange_over(self, rest: bytes, keep: bool) -> None:
        """Handle the end of the exchange; ``rest`` was received after its request."""
        self._exchange = None
        if not keep or self.is_last:
            self._close()
            self.sessions.flushed(self)
            return
        self._held = rest
        if self.flow.blocked:
            # A client that sends requests and never reads would fill the memory: its next request waits.
            self._flushing = True
            self.flow.observer = self
        else:
            self._become_ready()

    def flow_changed(self, flow: HttpFlow) -> None:
        """Read the next request when the last response has left the write buffer."""
        if not flow.blocked:
            self._become_ready()

    def flow_stalled(self, flow: HttpFlow) -> None:
        """Abort the connection, since the client does not read its last response."""
        self.transport.abortConnection()

    def _become_ready(self) -> None:
        self._flushing = False
        self.flow.unobserve()
        held, self._held = self._held, b""
        self.flow.resume()
        self._on_ready(held)
        if not self.busy:  # the next request may have begun
            self.sessions.flushed(self)

    # The idle upstream connection

    def take_idle(
        self, destination: Destination, proxy_header: bytes, claim_names: tuple[str, ...]
    ) -> HttpUpstream | None:
        """Return the idle connection to ``destination`` that counts under these names, or None.

        An idle connection to another destination, or that counts for another client, is closed.
        """
        idle = self._idle
        if idle is not None and idle.fits(destination, proxy_header, claim_names):
            self._idle = None
            self.gateway.admission.mark_in_use(idle)
            return idle
        self._close_idle()
        return None

    def keep_idle(self, upstream: HttpUpstream) -> None:
        """Keep this upstream connection for the next exchange."""
        if self._idle is not None:
            self._close_idle()
        self._idle = upstream
        self.gateway.admission.mark_idle(upstream)

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            self.gateway.admission.mark_in_use(idle)
            idle.close()

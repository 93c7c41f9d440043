"""A downstream connection as its HTTP exchanges see it, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import MAX_EARLY
from esxiproxy.net.http.exchange import Exchange
from esxiproxy.net.http.flow_control import HttpFlow, PauseReason
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.upstream.gateway import Gateway


class HttpDownstream:
    """Serves one request at a time, and keeps the one idle upstream connection between them.

    ``over`` is called when a request has its answer and the next head may be read, with the bytes that came
    in the meantime; ``closing`` when the connection is to be closed.  ``epoch`` is the one in which it came.
    """

    def __init__(
        self,
        transport: Any,
        gateway: Gateway,
        sessions: Sessions,
        clock: IReactorTime,
        over: Callable[[bytes], None],
        closing: Callable[[], None],
        epoch: int,
    ) -> None:
        self.transport = transport
        self.gateway = gateway
        self.sessions = sessions
        self.clock = clock
        self.flow = HttpFlow(transport, clock, 0.0)
        with suppress(AttributeError, OSError):  # a unix socket, a transport of a test
            transport.setTcpNoDelay(True)
        self._over = over
        self._closing = closing
        self._epoch = epoch
        self._idle: HttpUpstream | None = None
        self._exchange: Exchange | None = None
        self._held = b""
        self._draining = False
        """Whether the last answer is not yet with the client."""

    @property
    def busy(self) -> bool:
        """Whether what comes belongs to a request, or has to wait for one to be done."""
        return self._exchange is not None or self._draining

    @property
    def is_last(self) -> bool:
        """Whether no other request is served behind the one that is."""
        return self.sessions.is_stale(self._epoch)

    def serve(self, session: Session, rest: bytes) -> None:
        """Forward this request; raises a SessionError for one that is refused as it stands."""
        exchange = Exchange(session, self)
        self._exchange = exchange
        self.flow.install()
        self.sessions.wait_for_flush(self)  # a drain must not end between the record and the last write
        exchange.start(rest)

    def received(self, octets: bytes) -> None:
        """Bytes that came while busy."""
        if self._exchange is not None:
            self._exchange.request_received(octets)
            return
        self._held += octets
        if len(self._held) > MAX_EARLY:
            self.flow.set_paused(PauseReason.HELD, True)

    def lost(self) -> None:
        """The client's connection has ended."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        self.flow.lost()
        self.sessions.flushed(self)
        self._close_idle()

    def stop(self) -> None:
        """No more HTTP on this connection: it becomes a WebSocket, or is closed."""
        self._exchange = None
        self.flow.remove()
        self._close_idle()

    def is_flushed(self) -> bool:
        """Return whether no request waits for its answer, and the client has acknowledged all of the last."""
        return not self.busy and not unsent_bytes(self.transport)

    def abort(self) -> None:
        """End the connection without a word."""
        self.transport.abortConnection()

    # What an exchange tells

    def exchange_over(self, rest: bytes, keep: bool) -> None:
        """The request has its answer; ``rest`` came behind it."""
        self._exchange = None
        if not keep or self.is_last:
            self._closing()
            self.sessions.flushed(self)
            return
        self._held = rest
        if self.flow.blocked:
            # The next request has to wait: a client that asks and never reads would fill our memory.
            self._draining = True
            self.flow.observe(self)
        else:
            self._drained()

    def flow_changed(self, flow: HttpFlow) -> None:
        """Await the next request when the last answer has left the transport's buffer."""
        if not flow.blocked:
            self._drained()

    def flow_stalled(self, flow: HttpFlow) -> None:
        """Abort the connection: the client does not take its last answer."""
        self.transport.abortConnection()

    def _drained(self) -> None:
        self._draining = False
        self.flow.unobserve()
        held, self._held = self._held, b""
        self.flow.resume()
        self._over(held)
        if not self.busy:  # the next request may have begun: its answer is waited for, too
            self.sessions.flushed(self)

    # The idle upstream connection

    def take_idle(
        self, upstream: Upstream, proxy_header: bytes, counted: tuple[str, ...]
    ) -> HttpUpstream | None:
        """Return the connection from before if it leads there and counts under these names.

        One that leads elsewhere, or that counts for another client, is closed.
        """
        idle = self._idle
        if idle is not None and idle.fits(upstream, proxy_header, counted):
            self._idle = None
            self.gateway.admission.mark_in_use(idle)
            return idle
        self._close_idle()
        return None

    def keep_idle(self, upstream: HttpUpstream) -> None:
        """Its exchange is over: the next one may have it."""
        self._close_idle()
        self._idle = upstream
        self.gateway.admission.mark_idle(upstream)

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            self.gateway.admission.mark_in_use(idle)
            idle.close()

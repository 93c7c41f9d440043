"""The downstream leg: Autobahn's server protocol, which sends its 101 after the upstream's."""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.errors import (
    ClientLost,
    Draining,
    Internal,
    MalformedRequest,
    SessionError,
    UpstreamInvalid,
)
from esxiproxy.core.http.refusal import refusal
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import MAX_EARLY
from esxiproxy.core.websocket.closing import Side
from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.core.websocket.handshake import Upgrade, switching_head
from esxiproxy.net.console.backend import Backend, BackendFactory
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.console.opening import open_backend
from esxiproxy.net.console.relay import Relay
from esxiproxy.net.coroutines import Run, run
from esxiproxy.net.sessions import Sessions, log_bug
from esxiproxy.net.sockets.linger import Linger
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.upstream.gateway import Gateway


class Frontend(Leg, WebSocketServerProtocol):
    """The WebSocket connection of one client.

    Dispatch has read and checked the request head.  The frontend opens the upstream leg, and then answers
    with a 101 or a refusal.
    """

    side = Side.CLIENT
    versions = (13,)
    webStatus = False
    requireMaskedClientFrames = True
    maskServerFrames = False
    serveFlashSocketPolicy = False
    allowedOrigins = ("*",)
    allowNullOrigin = True
    maxConnections = 0
    trustXForwardedFor = 0

    relay: Relay | None = None

    _log = Logger()

    def __init__(self, session: Session, upgrade: Upgrade, gateway: Gateway, sessions: Sessions) -> None:
        super().__init__(FrameWalker(masked=True))
        self.session = session
        self._upgrade = upgrade
        self._gateway = gateway
        self._sessions = sessions
        self._admission: Run[Backend] | None = None
        self._refused = False
        self._linger: Linger | None = None

    # Opening handshake

    def begin(self) -> None:
        """Open the upstream leg, or refuse the request while the proxy drains."""
        self._sessions.add(self)
        if self._sessions.draining:
            self.refuse(Draining("the proxy is shutting down"))
            return
        opening = open_backend(self._gateway, self.session, self._upgrade, self.factory.backends)
        self._admission = run(opening, self._accept, self._failed)

    def consumeData(self) -> None:
        """Buffer up to ``MAX_EARLY`` bytes before the 101.  A pause would hide the client's disconnection."""
        if self.state != self.STATE_CONNECTING:
            super().consumeData()
        elif self._refused:
            self.data = b""
        elif len(self.data) > MAX_EARLY:
            self.refuse(MalformedRequest(f"more than {MAX_EARLY} bytes before the 101"))

    def _accept(self, backend: Backend) -> None:
        if self.lost or self._refused:  # the client disconnected in the turn in which the upstream accepted
            backend.transport.abortConnection()
            return
        assert backend.acceptance is not None
        self.walker.max_frame = self.session.limits.max_frame
        assert self.session.principal is not None
        more = self.session.principal.response_fields
        try:
            answer = switching_head(self._upgrade, backend.acceptance, self.session.id, more)
            self.transport.write(answer)
            self.open()
            backend.acceptance = None
            self._sessions.opened(self.session)
            clock, totals = self.factory.clock, self._sessions.totals
            relay = Relay(self.session, self, backend, clock, self._close_session, totals)
        except BaseException as error:
            backend.transport.abortConnection()  # no relay closes it
            if not isinstance(error, UpstreamInvalid):
                raise
            self.refuse(error)
            return
        relay.start()
        self.consumeData()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and (self.lost or self._refused):
            return
        if isinstance(failure.value, SessionError):
            self.refuse(failure.value)
        else:
            log_bug(self._log, "unexpected exception while opening a console", failure, self.session.id)
            self.end(Internal("an internal error, see the log of the proxy"))

    def refuse(self, error: SessionError) -> None:
        """Answer with an HTTP error in place of the 101, and close the connection."""
        if self._refused or self.lost:
            return
        self._refused = True
        self.session.status = error.status_code
        self.session.failed(error)
        if self._admission is not None:
            self._admission.cancel()
        self.data = b""
        self.transport.write(refusal(error, self.session.request))
        timeout = self.session.limits.close_timeout
        self._linger = Linger(self.transport, self.factory.clock, timeout)
        self._gateway.admission.release(self.session)
        if not self.is_flushed():
            self._sessions.wait_for_flush(self)
        self._close_session()

    def is_flushed(self) -> bool:
        """Return whether the client has acknowledged all bytes that were written."""
        return not unsent_bytes(self.transport)

    # Closing

    def connection_ended(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        if self.relay is not None:
            self.relay.lost(self)
            return
        if self._refused:
            self._sessions.flushed(self)
            return
        self.session.status = ClientLost.status
        self.session.failed(ClientLost("the client disconnected before the 101"), "client")
        if self._admission is not None:
            self._admission.cancel()
        self._close_session()

    def _close_session(self) -> None:
        self._sessions.closed(self.session)

    def end(self, error: SessionError) -> None:
        """End the session: send a Close if it is open, and refuse the request otherwise."""
        if self.relay is not None:
            self.relay.end(error)
        else:
            self.refuse(error)

    def abort(self) -> None:
        """Abort the connections of the session."""
        if self.relay is not None:
            self.relay.abort()
        else:
            self.transport.abortConnection()


class FrontendFactory(WebSocketServerFactory):
    """The Autobahn factory that all frontends of one listener share."""

    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(reactor=clock)
        self.clock = clock
        self.backends = BackendFactory(clock)
        Frontend.allowedOriginsPatterns = self.allowedOriginsPatterns

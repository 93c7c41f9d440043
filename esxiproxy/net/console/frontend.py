"""The downstream leg: Autobahn's server protocol, its 101 withheld until the upstream has accepted."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.errors import (
    ClientLost,
    Draining,
    Internal,
    MalformedRequest,
    SessionError,
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
from esxiproxy.net.sessions import Sessions, log_bug
from esxiproxy.net.sockets.linger import Linger
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.upstream.gateway import Gateway


class Frontend(Leg, WebSocketServerProtocol):
    """One client's WebSocket connection.

    It is handed a connection whose request head dispatch has read and checked, and begins with the answer.
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
        self._admission: Deferred[Backend] | None = None
        self._refused = False
        self._abort_call: Linger | None = None

    # Opening handshake

    def begin(self) -> None:
        """The head is read, so the upstream can be asked: its answer is the client's."""
        self._sessions.add(self)
        if self._sessions.draining:
            self.refuse(Draining("the proxy is shutting down"))
            return
        self._admission = Deferred.fromCoroutine(
            open_backend(self._gateway, self.session, self._upgrade, self.factory.backends)
        )
        self._admission.addCallback(self._accept).addErrback(self._failed)

    def consumeData(self) -> None:
        """Before the 101, what the client sends is held: a pause would hide that it left."""
        if self.state != self.STATE_CONNECTING:
            super().consumeData()
        elif self._refused:
            self.data = b""
        elif len(self.data) > MAX_EARLY:
            self.refuse(MalformedRequest(f"more than {MAX_EARLY} bytes before the 101"))

    def _accept(self, backend: Backend) -> None:
        if self.lost or self._refused:  # it left in the very turn in which the upstream accepted
            backend.transport.abortConnection()
            return
        assert backend.acceptance is not None
        self.walker = FrameWalker(masked=True, max_frame=self.session.limits.max_frame)
        self.transport.write(switching_head(self._upgrade, backend.acceptance, self.session.id))
        self.open()
        backend.acceptance = None
        self._sessions.opened(self.session)
        relay = Relay(self.session, self, backend, self.factory.clock, self._over)
        relay.start()
        self.consumeData()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and (self.lost or self._refused):
            return
        if isinstance(failure.value, SessionError):
            self.refuse(failure.value)
        else:
            log_bug(self._log, "a plugin or a bug of ours raised", failure, self.session.id)
            self.end(Internal("an internal error, see the log of the proxy"))

    def refuse(self, error: SessionError) -> None:
        """Answer in place of a 101, and close."""
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
        self._abort_call = Linger(self.transport, self.factory.clock, timeout)
        self._gateway.admission.release(self.session)
        if not self.is_flushed():
            self._sessions.wait_for_flush(self)
        self._over()

    def is_flushed(self) -> bool:
        """Return whether the client has acknowledged all that was written."""
        return not unsent_bytes(self.transport)

    # The end

    def connection_ended(self, reason: Failure) -> None:
        if self._abort_call is not None and self._abort_call.active():
            self._abort_call.cancel()
        if self.relay is not None:
            self.relay.lost(self)
            return
        if self._refused:
            self._sessions.flushed(self)
            return
        self.session.status = ClientLost.status
        self.session.failed(ClientLost("the client left before its 101"), "client")
        if self._admission is not None:
            self._admission.cancel()
        self._over()

    def _over(self) -> None:
        self._sessions.closed(self.session)

    def end(self, error: SessionError) -> None:
        """End the session: with a Close when it is open, with a refusal before."""
        if self.relay is not None:
            self.relay.end(error)
        else:
            self.refuse(error)

    def abort(self) -> None:
        """End the session without a word."""
        if self.relay is not None:
            self.relay.abort()
        else:
            self.transport.abortConnection()


class FrontendFactory(WebSocketServerFactory):
    """What Autobahn wants to know of a listener: one a listener, shared by all of its frontends."""

    noisy = False

    def __init__(self, clock: Any) -> None:
        super().__init__(reactor=clock)
        self.clock = clock
        self.backends = BackendFactory(clock)
        Frontend.allowedOriginsPatterns = self.allowedOriginsPatterns

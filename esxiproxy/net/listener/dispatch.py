"""Reads the request heads of a connection, and hands it to whoever serves them."""

from __future__ import annotations

import typing
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import MalformedRequest, MethodRefused, SessionError, UpgradeRequired
from esxiproxy.core.http.forwarded import origin_of
from esxiproxy.core.http.head import NO_HEAD, HeadReader, RequestHead
from esxiproxy.core.http.health import asks_for_health, health
from esxiproxy.core.http.message import max_forwards, options_answer
from esxiproxy.core.http.paths import check_path
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.http.refusal import refusal
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.via import check_loop
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.websocket.handshake import Upgrade, upgrade_of
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.console.frontend import Frontend, FrontendFactory
from esxiproxy.net.http.downstream import HttpDownstream
from esxiproxy.net.sessions import Sessions, session_id
from esxiproxy.net.sockets.linger import Linger
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.tls.handshake_fault import handshake_fault
from esxiproxy.net.upstream.gateway import Gateway

_MAX_DISCARDED = 1024 * 1024 * 1024
"""Bytes that are read and discarded behind the last answer of a connection."""
MAX_DISCARDING = 256
"""Connections of a listener that get more than ``close_timeout`` for the rest of an upload."""


class Listener(typing.Protocol):
    """The listener that a connection came in through, as dispatch needs it."""

    name: str
    gateway: Gateway
    sessions: Sessions
    limits: SessionLimits
    clock: Any
    edge: ListenerPolicy
    frontends: FrontendFactory
    discarding: set[Any]


@implementer(IHandshakeListener)
class Dispatch(Protocol):
    """One accepted connection: reads a head, and hands the connection to whoever serves it.

    The head is checked on its raw bytes and handed on untouched, so that there is one reading of it.  A
    frontend takes the place of this protocol on the transport, for good; a plain HTTP request gives the
    connection back when it has its answer, with what the client has sent behind it.
    """

    transport: Any
    factory: Listener

    def __init__(self, factory: Listener) -> None:
        self.factory = factory
        self._reader = HeadReader()
        self._timer: IDelayedCall | Linger | None = None
        self._http: HttpDownstream | None = None
        self._discarded = 0
        self._slot: Slot | None = None
        self._shaking = False
        """Whether the TLS handshake goes on."""
        self._epoch = factory.sessions.epoch

    def connectionMade(self) -> None:
        limits = self.factory.limits
        if not self._take_handshake_slot():
            return
        if ISSLTransport.providedBy(self.transport):
            self._shaking = True
            self._arm(limits.tls_handshake_timeout, self._on_tls_timeout)
        else:
            self._arm(limits.head_timeout, self._on_head_timeout)

    def handshakeCompleted(self) -> None:
        """TLS is up; from now on the head is due, if it is not refused already."""
        self._shaking = False
        if self._slot is not None:
            self._arm(self.factory.limits.head_timeout, self._on_head_timeout)

    def dataReceived(self, data: bytes) -> None:
        if self._http is not None and self._http.busy:
            self._http.received(data)
            return
        if self._is_idle:
            data = self._reader.skip(data)  # some clients send an empty line behind a body: no request
            if not data:
                return
            self._mark_busy()
            if not self._take_handshake_slot():
                return
            self._arm(self.factory.limits.head_timeout, self._on_head_timeout)
        try:
            read = self._reader.feed(data)
        except SessionError as error:
            if isinstance(error, MethodRefused):
                error.fields = ((b"Allow", self.factory.edge.methods),)
            self._refuse(error, self._request(NO_HEAD), Kind.HTTP)
        else:
            if read is not None:
                self._disarm()
                self._serve(*read)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._mark_busy()
        self._disarm()
        self._release_handshake_slot()
        if self._shaking and (fault := handshake_fault(reason.value)) is not None:
            self._record(fault[0], self._request(NO_HEAD), Kind.HTTP, fault[1])
        self.factory.sessions.flushed(self)
        self.factory.discarding.discard(self)
        self.__dict__.pop("dataReceived", None)  # a circle that somebody would have to collect
        if self._http is not None:
            self._http.lost()

    def _serve(self, head: RequestHead, rest: bytes) -> None:
        request, kind = self._request(head), Kind.HTTP
        try:
            if asks_for_health(head, self.factory.edge.health):
                self._tell_health(head)
                return
            upgrade = upgrade_of(head)
            kind = Kind.HTTP if upgrade is None else Kind.CONSOLE
            check_path(head.target, self.factory.edge.paths)
            check_loop(head)
            if upgrade is not None:
                self._upgrade(request, upgrade, rest)
            elif self.factory.edge.http is Http.FORWARD:
                self._forward(request, rest)
            else:
                raise UpgradeRequired("only WebSocket connections are served here")
        except SessionError as error:
            self._refuse(error, request, kind)

    def _tell_health(self, head: RequestHead) -> None:
        """Answer a health check: it is no session, so no limit counts it and no log has it."""
        self.transport.write(health(head, self.factory.sessions.draining))
        self._close()

    def _request(self, head: RequestHead) -> Request:
        factory, secure = self.factory, bool(ISSLTransport.providedBy(self.transport))
        origin = origin_of(head, PeerAddress.of(self.transport.getPeer()), secure, factory.edge.trust)
        return Request(
            session_id(),
            factory.name,
            origin.client,
            origin.secure,
            head,
            origin.chain,
            origin.host,
            _listening(self.transport),
        )

    def _upgrade(self, request: Request, upgrade: Upgrade, rest: bytes) -> None:
        factory = self.factory
        session = factory.sessions.new(request, factory.limits)
        if self._slot is not None:
            factory.gateway.admission.assign_handshake_slot(session, self._slot)
        frontend = Frontend(session, upgrade, factory.gateway, factory.sessions)
        frontend.factory = factory.frontends
        if self._http is not None:
            self._http.stop()
        self._hand_to(frontend)
        if rest and not frontend.lost:
            frontend.dataReceived(rest)

    def _hand_to(self, protocol: Protocol) -> None:
        """The transport knows its protocol by our name: its calls go on to the new one, at no cost."""
        self.dataReceived = protocol.dataReceived  # type: ignore[method-assign]
        self.connectionLost = protocol.connectionLost  # type: ignore[method-assign]
        protocol.makeConnection(self.transport)

    def _forward(self, request: Request, rest: bytes) -> None:
        factory = self.factory
        if max_forwards(request.head) == 0:
            return self._answer_options(request)
        self._release_handshake_slot()
        if self._http is None:
            self._http = HttpDownstream(
                self.transport,
                factory.gateway,
                factory.sessions,
                factory.clock,
                self._await_next_request,
                self._close,
                self._epoch,
            )
        self._http.serve(factory.sessions.new(request, factory.limits, Kind.HTTP), rest)

    def _answer_options(self, request: Request) -> None:
        """Answer an OPTIONS that has reached its last recipient."""
        session = self.factory.sessions.new(request, self.factory.limits, Kind.HTTP)
        session.answered(200)
        self.factory.sessions.closed(session)
        self.transport.write(options_answer(request, self.factory.edge.methods))
        self._close()

    def _await_next_request(self, rest: bytes) -> None:
        """A request has its answer; the next one is read as the first one was."""
        self._reader = HeadReader()
        rest = self._reader.skip(rest)
        self._arm(self.factory.limits.keepalive_timeout, self._close)
        sessions = self.factory.sessions
        if sessions.is_stale(self._epoch) and not rest:
            return self._close()
        sessions.idle_connections.add(self._close)
        if rest:
            self.dataReceived(rest)

    @property
    def _is_idle(self) -> bool:
        """Whether an answer is done and nothing of another request has come."""
        return self._close in self.factory.sessions.idle_connections

    def _mark_busy(self) -> None:
        """Something of another request has come, or no other will."""
        self.factory.sessions.idle_connections.discard(self._close)

    def _take_handshake_slot(self) -> bool:
        """Begin an opening handshake, which is over with the head; False when there are too many of them."""
        gateway = self.factory.gateway
        try:
            self._slot = gateway.admission.take_handshake_slot(self.factory.name, gateway.connection_limits)
        except SessionError as error:
            self._refuse(error, self._request(NO_HEAD), Kind.HTTP)
            return False
        return True

    def _release_handshake_slot(self) -> None:
        """It is no longer in the opening handshake."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    def _on_head_timeout(self) -> None:
        if not self._reader:  # browsers connect ahead, and there is nothing to answer
            self.factory.gateway.admission.silent += 1
            self._close()
            return
        late = f"no whole request head within {self.factory.limits.head_timeout:g} s"
        error = MalformedRequest(late, status=408, timeout="head_timeout")
        self._refuse(error, self._request(NO_HEAD), Kind.HTTP)

    def _on_tls_timeout(self) -> None:
        """There is no TLS to answer in, so the record has no status."""
        self._shaking = False
        if not getattr(self.transport, "heard", True):
            self.factory.gateway.admission.silent += 1
            self.transport.abortConnection()
            return
        late = f"no TLS handshake within {self.factory.limits.tls_handshake_timeout:g} s"
        error = MalformedRequest(late, status=0, timeout="tls_handshake_timeout")
        self._record(error, self._request(NO_HEAD), Kind.HTTP)
        self.transport.abortConnection()

    def _refuse(self, error: SessionError, request: Request, kind: Kind) -> None:
        self._record(error, request, kind)
        self.transport.write(refusal(error, request))
        self._close()

    def _record(self, error: SessionError, request: Request, kind: Kind, ended_by: str = "") -> None:
        """This is all that there was of a session."""
        factory = self.factory
        session = factory.sessions.new(request, factory.limits, kind)
        session.status = error.status_code
        session.failed(error, ended_by)
        factory.sessions.closed(session)

    def _close(self) -> None:
        """Nothing more is served here; what still comes is read so that the answer is not reset away."""
        self._mark_busy()
        self._release_handshake_slot()
        if self._http is not None:
            self._http.stop()
        self.dataReceived = self._discard  # type: ignore[method-assign]
        self._disarm()
        limits = self.factory.limits
        patience = None if self._http is None else limits.stall_timeout
        self._timer = Linger(self.transport, self.factory.clock, limits.close_timeout, patience)
        if not self.is_flushed():
            self.factory.sessions.wait_for_flush(self)

    def is_flushed(self) -> bool:
        """Return whether the client has acknowledged all that was written."""
        return not unsent_bytes(self.transport)

    def abort(self) -> None:
        """End the connection without a word."""
        self.transport.abortConnection()

    def _discard(self, data: bytes) -> None:
        """Discard the rest of an upload, since its client may read the answer only at its end.

        The bounds are the bytes, the time (see ``Linger.received``) and the number of such connections:
        beyond ``MAX_DISCARDING`` of them a connection is ended after ``close_timeout``.
        """
        self._discarded += len(data)
        discarding = self.factory.discarding
        if len(discarding) < MAX_DISCARDING:
            discarding.add(self)
        if isinstance(self._timer, Linger) and self in discarding:
            self._timer.received(len(data))
        if self._discarded > _MAX_DISCARDED:
            self.transport.pauseProducing()

    def _arm(self, seconds: float, call: Any) -> None:
        self._disarm()
        self._timer = self.factory.clock.callLater(seconds, call)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _listening(transport: Any) -> PeerAddress | None:
    """Return the address of ours that a connection came in at; None when its socket is closed already."""
    try:
        return PeerAddress.of(transport.getHost())
    except (OSError, AttributeError):  # AttributeError is Twisted's own transports'
        return None

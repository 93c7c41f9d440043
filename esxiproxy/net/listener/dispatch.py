"""Reads the request heads of a connection, and chooses what serves each request."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import MalformedRequest, MethodRefused, SessionError, UpgradeRequired
from esxiproxy.core.http.forwarded import forwarded_client
from esxiproxy.core.http.head import NO_HEAD, HeadReader, RequestHead
from esxiproxy.core.http.health import asks_for_health, health
from esxiproxy.core.http.message import max_forwards, options_answer
from esxiproxy.core.http.paths import check_path
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.http.refusal import refusal
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.via import check_loop
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.record import CONSOLE, HTTP, Kind
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.websocket.handshake import Upgrade, upgrade_of
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.console.frontend import Frontend, FrontendFactory
from esxiproxy.net.http.downstream import HttpDownstream
from esxiproxy.net.sessions import Sessions, session_id
from esxiproxy.net.sockets.linger import Linger
from esxiproxy.net.sockets.send_queue import unsent_bytes
from esxiproxy.net.tls.handshake_fault import handshake_fault
from esxiproxy.net.tls.server import server_name_and_certificate
from esxiproxy.net.transport.stream import Stream, hand_over
from esxiproxy.net.upstream.gateway import Gateway

_REFUSE = Http.REFUSE
MAX_DISCARDED = 1024 * 1024 * 1024
"""Bytes that are read and discarded after the last response on a connection."""
MAX_DISCARDING = 256
"""Connections of a listener that get more time than ``close_timeout`` for the rest of an upload."""


class Listener(typing.Protocol):
    """The listener that accepted a connection, as dispatch needs it."""

    name: str
    gateway: Gateway
    sessions: Sessions
    limits: SessionLimits
    clock: IReactorTime
    policy: ListenerPolicy
    frontends: FrontendFactory
    discarding: set[Any]


@implementer(IHandshakeListener)
class Dispatch(Protocol):
    """The first protocol of an accepted connection.

    It reads a request head, checks its raw bytes and passes it on unchanged, so that the head is parsed in
    one place only.  For a WebSocket request a frontend replaces this protocol for good.  A plain HTTP
    request is served by ``HttpDownstream``.  After its response the next head is read here.
    """

    transport: Any
    factory: Listener

    def __init__(self, factory: Listener) -> None:
        self.factory = factory
        self._reader = HeadReader()
        self._deadline: IDelayedCall | Linger | None = None
        self._http: HttpDownstream | None = None
        self._discarded = 0
        self._handshake_slot: Slot | None = None
        self._in_tls_handshake = False
        """Whether the TLS handshake has begun and not ended."""
        self._epoch = factory.sessions.epoch
        self._is_idle = False
        """Whether the last response is complete and no byte of another request was received."""
        self._is_secure = False
        self._peer: PeerAddress | None = None
        """The peer's address; None before the first request, as the next two."""
        self._chain: tuple[str, ...] | None = None
        """The chain of a peer that is no trusted proxy; None for a trusted one."""
        self._listening: PeerAddress | None = None
        self._server_name: str | None = None
        self._certificate: bytes | None = None

    def connectionMade(self) -> None:
        limits = self.factory.limits
        self._is_secure = bool(ISSLTransport.providedBy(self.transport))
        if not self._take_handshake_slot():
            return
        if self._is_secure:
            self._in_tls_handshake = True
            self._arm(limits.tls_handshake_timeout, self._on_tls_timeout)
        else:
            self._arm(limits.head_timeout, self._on_head_timeout)

    def handshakeCompleted(self) -> None:
        """Start the deadline of the request head, unless the connection is refused already."""
        self._in_tls_handshake = False
        self._server_name, self._certificate = server_name_and_certificate(self.transport)
        if self._handshake_slot is not None:
            self._arm(self.factory.limits.head_timeout, self._on_head_timeout)

    def dataReceived(self, data: bytes) -> None:
        if self._http is not None and self._http.busy:
            self._http.received(data)
            return
        if self._is_idle:
            data = self._reader.skip(data)  # RFC 9112 2.2: some clients send an empty line after a body
            if not data:
                return
            self._mark_busy()
            if not self._admit_handshake(self.factory.gateway.admission.check_handshakes):
                return
        try:
            read = self._reader.feed(data)
        except SessionError as error:
            if isinstance(error, MethodRefused):
                error.fields = ((b"Allow", self.factory.policy.methods),)
            self._refuse(error, self._request(NO_HEAD), HTTP)
            return
        if read is not None:
            self._disarm()
            self._serve(*read)
        elif self._deadline is None and self._take_handshake_slot():
            self._arm(self.factory.limits.head_timeout, self._on_head_timeout)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._mark_busy()
        self._disarm()
        self._release_handshake_slot()
        if self._in_tls_handshake and (fault := handshake_fault(reason.value)) is not None:
            self._record(fault[0], self._request(NO_HEAD), HTTP, fault[1])
        self.factory.sessions.flushed(self)
        self.factory.discarding.discard(self)
        self.__dict__.pop("dataReceived", None)  # breaks a reference cycle
        if self._http is not None:
            self._http.lost()

    def _serve(self, head: RequestHead, rest: bytes) -> None:
        request, kind = self._request(head), HTTP
        try:
            if asks_for_health(head, self.factory.policy.health):
                self._answer_health_check(head)
                return
            upgrade = upgrade_of(head)
            kind = HTTP if upgrade is None else CONSOLE
            check_path(head.target, self.factory.policy.paths)
            check_loop(head)
            if upgrade is not None:
                if (origins := self.factory.policy.origins) is not None:
                    origins.check(request)
                self._upgrade(request, upgrade, rest)
            elif self.factory.policy.http is not _REFUSE or self._explains(head):
                self._forward(request, rest)
            else:
                raise UpgradeRequired("only WebSocket connections are served here")
        except SessionError as error:
            self._refuse(error, request, kind)

    def _explains(self, head: RequestHead) -> bool:
        """Return whether a plain request gets the reason for which an opening handshake would be refused.

        A script in a browser cannot see the refusal of an opening handshake.
        """
        return self.factory.gateway.explains and head.method in (b"GET", b"HEAD")

    def _answer_health_check(self, head: RequestHead) -> None:
        """Answer a health check.  It is no session: it is neither logged nor counted by a session limit."""
        factory = self.factory
        has_descriptors = factory.gateway.admission.has_descriptors
        draining = factory.sessions.draining or factory.gateway.is_drained(factory.name)
        self.transport.write(health(head, draining, has_descriptors))
        self._close()

    def _request(self, head: RequestHead) -> Request:
        if names := self.factory.gateway.identity_fields:
            head = head.without(names)
        factory = self.factory
        if self._peer is None:
            self._look_at_connection()
        assert self._peer is not None
        client, secure, chain, host, other_host = self._peer, self._is_secure, self._chain, None, None
        if chain is None:
            origin = forwarded_client(head, client, secure, factory.policy.trust)
            client, secure, chain = origin.client, origin.secure, origin.chain
            host, other_host = origin.host, origin.other_host
        elif hosts := head.named.get(b"host"):
            host = hosts[0]
        return Request(
            session_id(),
            factory.name,
            client,
            secure,
            head,
            chain,
            host,
            self._listening,
            other_host,
            self._server_name,
            self._certificate,
            factory.gateway.secrets,
        )

    def _look_at_connection(self) -> None:
        """Note what all requests of this connection have in common."""
        self._peer = peer = PeerAddress.of(self.transport.getPeer())
        self._listening = _listening(self.transport)
        if not self.factory.policy.trust.contains(peer.host):
            self._chain = (peer.host,)

    def _upgrade(self, request: Request, upgrade: Upgrade, rest: bytes) -> None:
        factory = self.factory
        if self._handshake_slot is None and not self._take_handshake_slot():
            return  # a kept connection has none, for most heads on it are in one read
        assert self._handshake_slot is not None
        session = factory.sessions.new(request, factory.limits)
        factory.gateway.admission.assign_handshake_slot(session, self._handshake_slot)
        frontend = Frontend(session, upgrade, factory.gateway, factory.sessions)
        frontend.factory = factory.frontends
        if self._http is not None:
            self._http.stop()
        self._hand_over(frontend)
        if rest and not frontend.lost:
            frontend.dataReceived(rest)

    def _hand_over(self, protocol: Protocol) -> None:
        """Make ``protocol`` the protocol of this connection."""
        if isinstance(self.transport, Stream):
            hand_over(self.transport, protocol)
            return
        # A transport with a protocol of its own in between (Twisted's TLS, a wrapper) goes on calling this
        # object.  Replacing its methods saves one Python call for each read that a forwarding method costs.
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
                factory.limits.keepalive_timeout,
                self._await_next_request,
                self._close,
                self._epoch,
            )
        self._http.serve(factory.sessions.new(request, factory.limits, HTTP), rest)

    def _answer_options(self, request: Request) -> None:
        """Answer an OPTIONS request whose Max-Forwards is 0 (RFC 9110 7.6.2)."""
        session = self.factory.sessions.new(request, self.factory.limits, HTTP)
        session.answered(200)
        self.factory.sessions.closed(session)
        self.transport.write(options_answer(request, self.factory.policy.methods))
        self._close()

    def _await_next_request(self, rest: bytes) -> None:
        """Read the next request head after a response; ``rest`` was received after the last request."""
        self._reader.restart()
        if rest:
            rest = self._reader.skip(rest)
        assert self._http is not None
        self._http.idle_timer.start(self._close)
        sessions = self.factory.sessions
        if sessions.is_stale(self._epoch) and not rest:
            return self._close()
        self._is_idle = True
        sessions.idle_connections.add(self._close)
        if rest:
            self.dataReceived(rest)

    def _mark_busy(self) -> None:
        """Note that another request has begun, or that the connection is being closed."""
        if self._is_idle and self._http is not None:
            self._is_idle = False
            self._http.idle_timer.stop()
            self.factory.sessions.idle_connections.discard(self._close)

    def _take_handshake_slot(self) -> bool:
        """Take a handshake slot of the listener; refuse the connection and return False without one."""
        return self._admit_handshake(self.factory.gateway.admission.take_handshake_slot)

    def _admit_handshake(self, admit: Callable[[str, ConnectionLimits], Slot | None]) -> bool:
        """Let ``admit`` take or check a slot; refuse the connection and return False without one."""
        try:
            self._handshake_slot = admit(self.factory.name, self.factory.gateway.connection_limits)
        except SessionError as error:
            self._refuse(error, self._request(NO_HEAD), HTTP)
            return False
        return True

    def _release_handshake_slot(self) -> None:
        """Release the handshake slot, if this connection has one."""
        slot, self._handshake_slot = self._handshake_slot, None
        if slot is not None:
            slot.release()

    def _on_head_timeout(self) -> None:
        if not self._reader:  # browsers open spare connections
            self.factory.gateway.admission.silent += 1
            self._close()
            return
        what = f"no complete request head within {self.factory.limits.head_timeout:g} s"
        error = MalformedRequest(what, status=408, timeout="head_timeout")
        self._refuse(error, self._request(NO_HEAD), HTTP)

    def _on_tls_timeout(self) -> None:
        """Abort the connection.  Without TLS there is no response, so the record's status is 0."""
        self._in_tls_handshake = False
        if not getattr(self.transport, "has_received", True):
            self.factory.gateway.admission.silent += 1
            self.transport.abortConnection()
            return
        what = f"no complete TLS handshake within {self.factory.limits.tls_handshake_timeout:g} s"
        error = MalformedRequest(what, status=0, timeout="tls_handshake_timeout")
        self._record(error, self._request(NO_HEAD), HTTP)
        self.transport.abortConnection()

    def _refuse(self, error: SessionError, request: Request, kind: Kind) -> None:
        self._record(error, request, kind)
        self.transport.write(refusal(error, request))
        self._close()

    def _record(self, error: SessionError, request: Request, kind: Kind, ended_by: str = "") -> None:
        """Write the record of a session that ends before it was admitted."""
        session = self.factory.sessions.new(request, self.factory.limits, kind)
        session.status = error.status_code
        session.failed(error, ended_by)
        self.factory.sessions.closed(session)

    def _close(self) -> None:
        """Half-close the connection, and discard input until the client closes or a deadline expires.

        Closing a socket with unread input would reset the connection, and the client would lose the response.
        """
        self._mark_busy()
        self._release_handshake_slot()
        if self._http is not None:
            self._http.stop()
        self.dataReceived = self._discard  # type: ignore[method-assign]
        self._disarm()
        limits = self.factory.limits
        patience = None if self._http is None else limits.stall_timeout
        self._deadline = Linger(self.transport, self.factory.clock, limits.close_timeout, patience)
        if not self.is_flushed():
            self.factory.sessions.wait_for_flush(self)

    def is_flushed(self) -> bool:
        """Return whether the client has acknowledged all bytes that were written."""
        return not unsent_bytes(self.transport)

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def _discard(self, data: bytes) -> None:
        """Discard the rest of an upload: its client may read the response only after it.

        The bytes are bounded by ``MAX_DISCARDED`` and the time by ``Linger.received``.  When the listener has
        ``MAX_DISCARDING`` such connections, the next ones are closed after ``close_timeout``.
        """
        self._discarded += len(data)
        discarding = self.factory.discarding
        if len(discarding) < MAX_DISCARDING:
            discarding.add(self)
        if isinstance(self._deadline, Linger) and self in discarding:
            self._deadline.received(len(data))
        if self._discarded > MAX_DISCARDED:
            self.transport.pauseProducing()

    def _arm(self, seconds: float, call: Any) -> None:
        self._disarm()
        self._deadline = self.factory.clock.callLater(seconds, call)

    def _disarm(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()


def _listening(transport: Any) -> PeerAddress | None:
    """Return the local address of a connection, or None if its socket is closed already."""
    try:
        return PeerAddress.of(transport.getHost())
    except (OSError, AttributeError):  # Twisted's transports raise AttributeError
        return None

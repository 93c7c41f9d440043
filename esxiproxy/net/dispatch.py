"""Reads one request head of a new connection, and hands the connection to whoever serves it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import MalformedRequest, SessionError, UpgradeRequired
from esxiproxy.core.handshake import upgrade_of
from esxiproxy.core.head import HeadReader, RequestHead
from esxiproxy.core.limits import Limits
from esxiproxy.core.refusal import refusal
from esxiproxy.core.request import Address, Request
from esxiproxy.net.frontend import Frontend, FrontendFactory
from esxiproxy.net.gateway import Gateway
from esxiproxy.net.linger import linger
from esxiproxy.net.sessions import Sessions, session_id


@implementer(IHandshakeListener)
class Dispatch(Protocol):
    """One accepted connection, until its first head is read.

    The head is checked on its raw bytes and handed on untouched, so that there is one reading of it.  The
    frontend then takes the place of this protocol on the transport.
    """

    _log = Logger()
    transport: Any
    factory: ListenerFactory

    def __init__(self, factory: ListenerFactory) -> None:
        self.factory = factory
        self._reader = HeadReader()
        self._call: IDelayedCall | None = None

    def connectionMade(self) -> None:
        limits = self.factory.limits
        if ISSLTransport.providedBy(self.transport):
            self._wait(limits.tls_handshake_timeout, self._abort)
        else:
            self._wait(limits.head_timeout, self._late)

    def handshakeCompleted(self) -> None:
        """TLS is up; from now on the head is due."""
        self._wait(self.factory.limits.head_timeout, self._late)

    def dataReceived(self, data: bytes) -> None:
        try:
            read = self._reader.feed(data)
            if read is not None:
                self._serve(*read)
        except SessionError as error:
            self._refuse(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop()

    def _serve(self, head: RequestHead, rest: bytes) -> None:
        upgrade = upgrade_of(head)
        if upgrade is None:
            raise UpgradeRequired("only WebSocket connections are served here")
        factory = self.factory
        request = Request(session_id(), factory.name, self._client(), self._secure(), head)
        session = factory.sessions.new(request, factory.limits)
        frontend = Frontend(session, upgrade, factory.gateway, factory.sessions)
        frontend.factory = factory.frontends
        self._stop()
        self._hand_to(frontend, head.raw)
        if rest and not frontend.lost:
            frontend.dataReceived(rest)

    def _hand_to(self, protocol: Protocol, octets: bytes) -> None:
        """The transport knows its protocol by our name: its calls go on to the new one, at no cost."""
        self.dataReceived = protocol.dataReceived  # type: ignore[method-assign]
        self.connectionLost = protocol.connectionLost  # type: ignore[method-assign]
        protocol.makeConnection(self.transport)
        protocol.dataReceived(octets)

    def _client(self) -> Address:
        peer = self.transport.getPeer()
        return Address(getattr(peer, "host", "unix"), getattr(peer, "port", 0))

    def _secure(self) -> bool:
        return bool(ISSLTransport.providedBy(self.transport))

    def _late(self) -> None:
        limit = self.factory.limits.head_timeout
        self._refuse(MalformedRequest(f"no whole request head within {limit:g} s", status=408))

    def _refuse(self, error: SessionError) -> None:
        factory = self.factory
        self._log.info(
            "listener {listener}: {client} refused: {name}: {error}",
            listener=factory.name,
            client=self._client(),
            name=error.name,
            error=error,
        )
        self.dataReceived = self._ignore  # type: ignore[method-assign]
        self.transport.write(refusal(error))
        self._stop()
        self._call = linger(self.transport, factory.clock, factory.limits.close_timeout)

    def _ignore(self, data: bytes) -> None:
        """It has its answer; what it goes on to send is read so that its answer is not reset away."""

    def _wait(self, seconds: float, call: Any) -> None:
        self._stop()
        self._call = self.factory.clock.callLater(seconds, call)

    def _stop(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _abort(self) -> None:
        self.transport.abortConnection()


class ListenerFactory(Factory):
    """The protocols of one listener: what is common to all of its connections.

    ``clock`` is a reactor, or a Clock in tests; TLS is around it, not in it.
    """

    noisy = False

    def __init__(self, name: str, gateway: Gateway, sessions: Sessions, limits: Limits, clock: Any) -> None:
        self.name = name
        self.gateway = gateway
        self.sessions = sessions
        self.limits = limits
        self.clock = clock
        self.frontends = FrontendFactory(clock)

    def buildProtocol(self, addr: Any) -> Any:
        return Dispatch(self)

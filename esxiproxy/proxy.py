"""The proxy itself, without a configuration file: what another Twisted application embeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.authenticators.anonymous import Anonymous
from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.core.errors import Draining
from esxiproxy.core.http.policy import ListenerPolicy
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.interfaces import IAuthenticator, IRouter, ISessionObserver, IState
from esxiproxy.net.admission.admission import Admission, always
from esxiproxy.net.listener.factory import ListenerFactory
from esxiproxy.net.listener.proxy_protocol import ProxyProtocolFactory
from esxiproxy.net.session_publisher import SessionPublisher
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.tls.server import CurrentContext, listener_context
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.net.transport.tls_start import TLSFactory
from esxiproxy.net.upstream.connector import Connector
from esxiproxy.net.upstream.gateway import Gateway
from esxiproxy.net.upstream.names import NameResolver
from esxiproxy.state.memory import MemoryState

_ABORT_TIMEOUT = 1.0
"""Seconds that aborted connections get to say so to their protocols."""
_CHECK_INTERVAL = 0.1
"""Seconds between two looks at whether somebody is still in the opening handshake."""


class Proxy(Service):
    """Makes the factories of listeners, and knows every session that came in through them.

    ``stopService`` drains: new sessions are refused with 503, connections that wait
    for another HTTP request are closed, sessions that run may go on for ``drain_timeout``,
    those that are left get a Close 1001, and what does not go by itself within ``close_timeout`` is aborted.
    Its Deferred fires when no session is left.  The ports are the application's, which stops them first.

    ``quotas`` says how many sessions and connections there may be, and ``state`` is what counts them: without
    one, the memory of this process.  ``room`` is asked whether there is a descriptor left for one more
    session, with so many to be dialled for still.  ``processes`` serve the same ports, this one among them.

    ``clock`` measures every duration; it should be one that nobody sets.  Without one the reactor does, and
    Twisted's own run on the time of day.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        observers: Iterable[ISessionObserver] = (),
        limits: SessionLimits | None = None,
        quotas: ConnectionLimits | None = None,
        state: IState | None = None,
        room: Callable[[int], bool] = always,
        processes: int = 1,
        clock: IReactorTime | None = None,
    ) -> None:
        self.limits = limits or SessionLimits()
        self.quotas = quotas or ConnectionLimits()
        self._reactor = with_fast_transports(reactor)
        self._clock: Any = clock or self._reactor
        self.state: IState = state or MemoryState(self._clock)
        self.admission = Admission(self.state, self._clock, room, processes)
        self._publisher = SessionPublisher(self.state)
        self.sessions = Sessions([*observers, self.admission, self._publisher], self._clock)
        self._names = NameResolver(self._reactor, self._clock)
        self._connector = Connector(self._reactor, self._names, self._clock)
        self._when_empty: Deferred[None] = succeed(None)
        self._aborted = False

    def listener(
        self,
        name: str,
        router: IRouter,
        authenticator: IAuthenticator | None = None,
        limits: SessionLimits | None = None,
        tls: ListenerTLS | IOpenSSLServerConnectionCreator | None = None,
        edge: ListenerPolicy | None = None,
        quotas: ConnectionLimits | None = None,
    ) -> Any:
        """The factory of one listener, to be given to ``reactor.listenTCP`` or an endpoint.

        ``tls`` puts TLS around it: certificate and key in files, or what Twisted's TLS takes.  ``edge`` says
        what is let in beside WebSockets.
        """
        edge, limits, quotas = edge or ListenerPolicy(), limits or self.limits, quotas or self.quotas
        if isinstance(tls, ListenerTLS):
            tls = CurrentContext(listener_context(tls))
        gateway = Gateway(authenticator or Anonymous(), router, self._connector, self.admission, quotas)
        factory: Any = ListenerFactory(name, gateway, self.sessions, limits, self._clock, edge)
        if tls is not None:
            factory = TLSFactory(tls, False, factory, self._clock)
        if edge.proxy_protocol:
            handshake = partial(self.admission.take_handshake_slot, name, quotas)
            factory = ProxyProtocolFactory(factory, self._clock, limits.head_timeout, edge.trust, handshake)
        return factory

    def renew(self, upstreams: Iterable[Upstream]) -> None:
        """Let the listeners that are made from now on read everything that they dial with anew.

        The files of these upstreams are read now, those of others when they are first dialled.  Raises
        TLSFileError, and then nothing has changed.
        """
        connector = Connector(self._reactor, self._names, self._clock)
        for upstream in upstreams:
            connector.prepare(upstream)
        self._connector = connector

    def startService(self) -> None:
        self.sessions.resume()
        self._aborted = False
        super().startService()
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(lambda failure: self._log.error("{error}", error=failure.value))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.sessions.drain()
        return Deferred.fromCoroutine(self._stop())

    def retire(self, seconds: float | None) -> Deferred[None]:
        """Let everybody who is here stay, since somebody else takes those who come.

        To be called when the ports are closed.  Fires when nobody is left; those left after ``seconds``, if
        any, are closed as at the end of a drain, and so are those that are still in the opening handshake.
        Without ``seconds`` each opening handshake ends by its own timeouts.
        """
        self.sessions.close_idle()
        return Deferred.fromCoroutine(self._retire(seconds))

    def abort(self) -> None:
        """End every session and connection now and without a word; a drain that goes on waits for nobody.

        What is aborted has ended in the next turn of the reactor, so that its record is written.
        """
        self._aborted = True
        self.sessions.abort(Draining("the proxy was told to end at once"))
        if not self._when_empty.called:
            self._when_empty.addTimeout(
                _ABORT_TIMEOUT, self._clock, onTimeoutCancel=lambda _result, _timeout: None
            )

    async def _start(self) -> None:
        await self.state.start(partial(self._publisher.execute, sessions=self.sessions))

    async def _stop(self) -> None:
        await self._drain(self.limits.drain_timeout, "drain_timeout")
        await self.state.stop()

    async def _retire(self, seconds: float | None) -> None:
        end = None if seconds is None else self._clock.seconds() + seconds
        while self.admission.handshakes and not self._aborted:  # nobody else will serve them
            if end is not None and self._clock.seconds() >= end:
                break
            await deferLater(self._clock, _CHECK_INTERVAL)
        left = None if end is None else max(0.0, end - self._clock.seconds())
        await self._drain(left, "upgrade_timeout")

    async def _drain(self, seconds: float | None, timeout: str) -> None:
        await self._wait_until_empty(seconds)
        if not self._aborted:
            for holder in self.sessions:
                holder.end(Draining("the proxy is shutting down", timeout=timeout))
            await self._wait_until_empty(self.limits.close_timeout)
        if not self._aborted:
            for holder in self.sessions:
                holder.abort()
            await self._wait_until_empty(_ABORT_TIMEOUT)

    async def _wait_until_empty(self, seconds: float | None) -> None:
        """Until the last session is gone, or the time is up; None stands for no end of it."""
        self._when_empty = gone = self.sessions.when_empty()
        if seconds is not None:
            seconds = min(seconds, _ABORT_TIMEOUT) if self._aborted else seconds
            gone.addTimeout(seconds, self._clock, onTimeoutCancel=lambda _result, _timeout: None)
        with suppress(CancelledError):
            await gone

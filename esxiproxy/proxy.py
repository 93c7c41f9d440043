"""The proxy as a Twisted service that other applications can embed; it needs no configuration file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
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
from esxiproxy.core.http.answer_filter import AnswerFilters
from esxiproxy.core.http.origins import AllowedOrigins
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Destination, Upstream
from esxiproxy.core.session.command import Command, CommandKind, Selector
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.interfaces import IAuthenticator, IRouter, ISessionObserver, IState
from esxiproxy.net.admission.admission import Admission, always
from esxiproxy.net.admission.drains import ActiveDrains
from esxiproxy.net.listener.factory import ListenerFactory
from esxiproxy.net.listener.proxy_protocol import ProxyProtocolFactory
from esxiproxy.net.logins import Logins
from esxiproxy.net.session_publisher import SessionPublisher
from esxiproxy.net.sessions import Sessions
from esxiproxy.net.tls.server import CurrentContext, listener_context
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.net.transport.tls_start import TLSFactory
from esxiproxy.net.upstream.connector import Connector
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.net.upstream.gateway import Gateway
from esxiproxy.net.upstream.health import Health
from esxiproxy.net.upstream.health_checks import HealthChecks
from esxiproxy.net.upstream.names import NameResolver
from esxiproxy.state.memory import MemoryState

_ABORT_TIMEOUT = 1.0
"""Seconds to wait for the protocols of aborted connections to be notified."""
_CHECK_INTERVAL = 0.1
"""Seconds between two checks for connections that are still in the opening handshake."""
_NEW_SESSIONS = {
    False: "new consoles under a limit are refused",
    True: "new consoles are admitted except by links that work once",
}
"""What happens to new consoles without the state, by whether it admits them then."""


class Proxy(Service):
    """A service that builds the factories of listeners and keeps track of their sessions.

    ``stopService`` drains the proxy.  New sessions are refused with status 503, and idle HTTP connections are
    closed.  Running sessions may continue for ``drain_timeout`` seconds and are then closed with code 1001.
    Connections that do not end within ``close_timeout`` seconds are aborted.  The Deferred fires when no
    session is left.  The application owns the ports and has to stop them first.

    ``observers``
        objects that are notified of every session (:class:`~esxiproxy.interfaces.ISessionObserver`).
    ``limits``
        the default durations and sizes of a session.
    ``connection_limits``
        the default maximum numbers of sessions and connections.
    ``state``
        counts sessions and connections, for several processes if it is shared; by default in memory.
    ``has_descriptors``
        is called with the number of sessions that have no upstream connection yet, and returns whether there
        are enough file descriptors for one more session.
    ``processes``
        the number of processes that serve the same ports, including this one.
    ``clock``
        measures every duration.  It should be monotonic; the default is the reactor, which in Twisted
        follows the time of day.
    ``identity``
        the machine and the run that drains of this proxy and its listeners belong to.  Processes that share
        a state and have the same identity are drained together; by default each process is alone.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        observers: Iterable[ISessionObserver] = (),
        limits: SessionLimits | None = None,
        connection_limits: ConnectionLimits | None = None,
        state: IState | None = None,
        has_descriptors: Callable[[int], bool] = always,
        processes: int = 1,
        clock: IReactorTime | None = None,
        identity: ProcessIdentity | None = None,
    ) -> None:
        self.limits = limits or SessionLimits()
        self.connection_limits = connection_limits or ConnectionLimits()
        self._reactor = with_fast_transports(reactor)
        self._clock: Any = clock or self._reactor
        self.state: IState = state or MemoryState(self._clock)
        self.admission = Admission(
            self.state,
            self._clock,
            has_descriptors,
            processes,
            on_refusal=lambda limit: self.sessions.refused(limit),
        )
        identity = identity or ProcessIdentity()
        self._publisher = SessionPublisher(self.state, machine=identity.machine)
        self._logins = Logins(lambda session: self.sessions[session], self._clock)
        self.drains = ActiveDrains(
            self.state, self._clock, lambda: self.sessions, lambda session: self.sessions[session], identity
        )
        """The drains: what takes no new consoles."""
        observers = [*observers, self.admission, self._publisher, self._logins, self.drains]
        self.sessions = Sessions(observers, self._clock)
        self.own_addresses: Callable[[], Collection[tuple[str, int]]] = tuple
        """Returns the addresses and ports of all listeners, which the hosts of a router may not have."""
        self._names = NameResolver(self._reactor, self._clock)
        self._health = Health(self._clock)
        self._connector = Connector(self._reactor, self._names, self._clock, self._health)
        self.health_checks = HealthChecks(self.state, self._clock, lambda: self._connector)
        self.before_state_stops: Callable[[], Awaitable[None]] | None = None
        """Called at the stop when no session is left and the state can still be written."""
        self._when_empty: Deferred[None] = succeed(None)
        self._aborted = False

    def listener(
        self,
        name: str,
        router: IRouter | Sequence[IRouter | Plugin],
        authenticator: IAuthenticator | Sequence[IAuthenticator | Plugin] | None = None,
        limits: SessionLimits | None = None,
        tls: ListenerTLS | IOpenSSLServerConnectionCreator | None = None,
        policy: ListenerPolicy | None = None,
        connection_limits: ConnectionLimits | None = None,
        portal: Destination | None = None,
        answer_filters: AnswerFilters | None = None,
    ) -> Any:
        """Return the protocol factory of one listener, for ``reactor.listenTCP`` or an endpoint.

        ``router`` selects the upstream of each session, after ``authenticator`` has identified its client; by
        default every client is admitted.  Several of them, in a sequence, are asked in this order.
        ``limits`` and ``connection_limits`` replace those of the proxy.  ``tls`` adds TLS: either certificate
        and key files or a Twisted connection creator.  ``policy`` sets what the listener serves, for example
        whether it forwards plain HTTP.  ``portal`` is the destination of all plain HTTP of a listener whose
        policy has ``Http.PORTAL``.  ``answer_filters`` may change answers to plain HTTP requests.

        Raises TLSFileError when a certificate or key file cannot be used.
        """
        policy, limits = policy or ListenerPolicy(), limits or self.limits
        connection_limits = connection_limits or self.connection_limits
        routers = _plugins("router", router)
        authenticators = _plugins("authenticator", authenticator or Anonymous())
        if policy.origins is None and _is_ambient([*routers, *authenticators], tls):
            policy = replace(policy, origins=AllowedOrigins())
        if isinstance(tls, ListenerTLS):
            tls = CurrentContext(listener_context(tls))
        gateway = Gateway(
            authenticators,
            routers,
            self._connector,
            self.admission,
            connection_limits,
            lambda: self.own_addresses(),
            policy.http is Http.FORWARD,
            self._logins,
            self.drains,
            portal,
            answer_filters,
        )
        factory: Any = ListenerFactory(name, gateway, self.sessions, limits, self._clock, policy)
        if tls is not None:
            factory = TLSFactory(tls, False, factory, self._clock)
        if policy.proxy_protocol:
            handshake = partial(self.admission.take_handshake_slot, name, connection_limits)
            factory = ProxyProtocolFactory(factory, self._clock, limits.head_timeout, policy.trust, handshake)
        return factory

    def renew(self, upstreams: Iterable[Upstream]) -> object:
        """Read the TLS files of the upstreams again, for listeners that are built after this call.

        The files of ``upstreams`` are read now, those of other upstreams when they are first dialled.
        Existing listeners are not affected.  Raises TLSFileError when a file cannot be used; nothing has
        changed then.  The result is an argument of ``restore``.
        """
        before = self._connector, self.health_checks.upstreams
        connector = Connector(self._reactor, self._names, self._clock, self._health)
        prepared = tuple(upstreams)
        for upstream in prepared:
            connector.prepare(upstream)
        self._connector = connector
        self.health_checks.use(prepared)
        return before

    def restore(self, before: Any) -> None:
        """Undo a call of ``renew``, whose result is ``before``."""
        self._connector, upstreams = before
        self.health_checks.use(upstreams)

    def startService(self) -> None:
        self.sessions.resume()
        self._aborted = False
        self.drains.expect_start()
        super().startService()  # type: ignore[no-untyped-call]
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(
            lambda failure: self._log.error(
                "start of the shared state failed; {new} until it can be reached: {error}",
                new=_NEW_SESSIONS[self.state.admits_when_down],
                error=failure.value,
            )
        )
        starting.addBoth(lambda _: self.drains.startService() if self.running else None)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self.sessions.drain()
        return Deferred.fromCoroutine(self._stop())

    def retire(self, seconds: float | None) -> Deferred[None]:
        """Serve the existing sessions to their end, while another process accepts new connections.

        Call it when the ports are closed.  The Deferred fires when no session is left.  After ``seconds``,
        sessions and opening handshakes that remain are closed as at the end of a drain.  If ``seconds`` is
        None, sessions may run for any time and opening handshakes end by their own timeouts.
        """
        self.sessions.close_idle()
        return Deferred.fromCoroutine(self._retire(seconds))

    def abort(self) -> None:
        """Abort every session and connection immediately, also during a drain.

        No Close frame is sent.  The sessions end in the next iteration of the reactor, which writes their
        records.
        """
        self._aborted = True
        self.sessions.abort(Draining("the proxy was aborted"))
        if not self._when_empty.called:
            self._when_empty.addTimeout(
                _ABORT_TIMEOUT, self._clock, onTimeoutCancel=lambda _result, _timeout: None
            )

    def end_sessions(self, selector: Selector, reason: str, section: str = "") -> None:
        """Close the sessions of this process that a selector selects, with close code 1008.

        With a ``section``, only sessions on which its router or authenticator has decided are closed.
        """
        command = Command(CommandKind.KILL, reason=reason, selector=selector)
        self._publisher.execute(command, self.sessions, section)

    async def _start(self) -> None:
        await self.state.start(partial(self._publisher.execute, sessions=self.sessions))
        if self.running:
            self.health_checks.startService()

    async def _stop(self) -> None:
        self.health_checks.stopService()
        await self._drain(self.limits.drain_timeout, "drain_timeout")
        self.drains.stopService()
        if self.before_state_stops is not None:
            await self.before_state_stops()
        await self.state.stop()

    async def _retire(self, seconds: float | None) -> None:
        end = None if seconds is None else self._clock.seconds() + seconds
        while self.admission.handshakes and not self._aborted:  # no other process serves them
            if end is not None and self._clock.seconds() >= end:
                break
            await deferLater(self._clock, _CHECK_INTERVAL)
        left = None if end is None else max(0.0, end - self._clock.seconds())
        await self._drain(left, "worker_shutdown_timeout")

    async def _drain(self, seconds: float | None, timeout: str) -> None:
        await self._wait_until_empty(seconds)
        if not self._aborted:
            for live in self.sessions:
                live.end(Draining("the proxy is shutting down", timeout=timeout))
            await self._wait_until_empty(self.limits.close_timeout)
        if not self._aborted:
            for live in self.sessions:
                live.abort()
            await self._wait_until_empty(_ABORT_TIMEOUT)

    async def _wait_until_empty(self, seconds: float | None) -> None:
        """Wait until no session is left, or so many seconds have passed; None means no deadline."""
        self._when_empty = empty = self.sessions.when_empty()
        if seconds is not None:
            seconds = min(seconds, _ABORT_TIMEOUT) if self._aborted else seconds
            empty.addTimeout(seconds, self._clock, onTimeoutCancel=lambda _result, _timeout: None)
        with suppress(CancelledError):
            await empty


def _plugins(kind: str, given: Any) -> tuple[Plugin, ...]:
    """Return the routers or authenticators of a listener, with names for messages."""
    several = given if isinstance(given, Sequence) else (given,)
    return tuple(one if isinstance(one, Plugin) else Plugin(kind, one) for one in several)


def _is_ambient(plugins: Iterable[Plugin], tls: ListenerTLS | IOpenSSLServerConnectionCreator | None) -> bool:
    """Return whether a browser sends credentials of this listener by itself, on behalf of any page."""
    return any(getattr(plugin.instance, "ambient", False) for plugin in plugins) or (
        isinstance(tls, ListenerTLS) and tls.client_ca is not None
    )

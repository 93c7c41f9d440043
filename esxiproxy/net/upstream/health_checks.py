"""Checks the addresses of upstreams regularly, in one process of all, and shares the results."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import SessionError, UpstreamLost
from esxiproxy.core.routing import Destination, Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.interfaces import IState
from esxiproxy.net.admission.slot import SlotOwner
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.upstream.candidates import Surroundings, check_addresses, literal_candidates, resolve
from esxiproxy.net.upstream.connector import Connector
from esxiproxy.net.upstream.health import Address, address_of
from esxiproxy.net.upstream.race import Candidate

INTERVAL = 10.0
"""Seconds between two checks of an address."""
_JITTER = 0.1
_AT_A_TIME = 16
_SPACE = "health"
_KEPT = 3 * INTERVAL
"""Seconds after which a result counts no more."""
_MAX_ANSWER = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_LIMITS = SessionLimits(connect_timeout=3.0, upstream_handshake_timeout=5.0)


def check_of(upstream: Upstream) -> str:
    """Return the kind of the active check of an upstream: ``off``, ``tcp``, ``tls`` or a path."""
    if upstream.health_check is not None:
        return upstream.health_check
    if not upstream.further:
        return "off"
    return "tls" if upstream.secure else "tcp"


class HealthChecks(Service):
    """A service that checks the addresses of upstreams every 10 s.

    One process of all that share the state makes the checks; the others read the results.  ``connector``
    returns the current connector, whose health gets the results.
    """

    _log = Logger()

    def __init__(
        self,
        state: IState,
        clock: IReactorTime,
        connector: Callable[[], Connector],
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.upstreams: Sequence[Upstream] = ()
        self._state = state
        self._clock = clock
        self._connector = connector
        self._time_of_day = time_of_day
        self._semaphore = DeferredSemaphore(_AT_A_TIME)
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._known: dict[Address, bool] = {}

    def use(self, upstreams: Iterable[Upstream]) -> None:
        """Check these upstreams from now on."""
        self.upstreams = [each for each in upstreams if each.host and check_of(each) != "off"]
        if not self.upstreams:
            self._known = {}
            self._connector().health.set_checked({})
        self._schedule(0.0)

    def startService(self) -> None:
        super().startService()
        self._schedule(0.0)

    def stopService(self) -> None:
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._running is not None:
            self._running.cancel()

    def _schedule(self, seconds: float) -> None:
        if self.running and self.upstreams and self._timer is None and self._running is None:
            self._timer = self._clock.callLater(seconds, self._run)

    def _run(self) -> None:
        self._timer = None
        running = Deferred.fromCoroutine(self._check_all())
        running.addErrback(
            lambda failure: self._log.debug("health checks failed: {error}", error=failure.value)
        )
        self._running = running
        running.addBoth(self._done)

    def _done(self, _result: object) -> None:
        self._running = None
        self._schedule(INTERVAL * (1 + _JITTER * random.uniform(-1, 1)))

    async def _check_all(self) -> None:
        """Check all addresses if this process leads, and use what the leader has found."""
        if await self._state.lead("upstreams: health"):
            checks = [self._semaphore.run(self._start_check, upstream) for upstream in self.upstreams]
            await DeferredList(checks, consumeErrors=True)
        found: dict[Address, bool] = {}
        for _key, text in await self._state.items(_SPACE, "", 4096):
            host, port, is_up = json.loads(text)
            found[host, port] = is_up
        if not self.upstreams:
            return
        self._log_changes(found)
        self._connector().health.set_checked(found)

    def _log_changes(self, found: dict[Address, bool]) -> None:
        for (host, port), is_up in found.items():
            if self._known.get((host, port), True) != is_up:
                verb = "passes" if is_up else "fails"
                self._log.warn(
                    "upstream address {host}:{port} {verb} its health check", host=host, port=port, verb=verb
                )
        self._known = found

    def _start_check(self, upstream: Upstream) -> Deferred[None]:
        return Deferred.fromCoroutine(self._check(upstream))

    async def _check(self, upstream: Upstream) -> None:
        """Check the addresses of one upstream and store the results."""
        destination = Destination.of(upstream)
        connector = self._connector()
        candidates = literal_candidates(destination)
        if candidates is None:
            try:
                candidates = await resolve(destination, connector.names, self._clock, 5.0)
            except SessionError:
                return
        check_addresses(candidates, destination, Surroundings())
        for candidate in candidates:
            is_up = await self._is_up(connector, candidate, check_of(upstream))
            host, port = address_of(candidate)
            value = json.dumps([host, port, is_up])
            await self._state.put(_SPACE, f"{host} {port}", value, self._time_of_day() + _KEPT)

    async def _is_up(self, connector: Connector, candidate: Candidate, check: str) -> bool:
        def make(upstream: Upstream, tls: UpstreamTLS | None) -> Probe:
            return Probe(upstream, check, tls)

        try:
            await connector.connect(candidate.upstream, candidate.host, make, _LIMITS)
        except SessionError as error:
            self._log.debug("{error}", error=error)
            return False
        return True


@implementer(IHandshakeListener)
class Probe(SlotOwner, Protocol):
    """A connection that checks one address and ends.

    ``opened`` fires when the check is passed: after the TCP connect, after the TLS handshake with the right
    certificate, or after an answer with a status below 400.
    """

    transport: Any

    def __init__(self, upstream: Upstream, check: str, tls: UpstreamTLS | None) -> None:
        self.address: Address | None = None
        self.may_send: Callable[[], bool] = lambda: True
        self.opened: Deferred[Probe] | None = Deferred(lambda _: self._abort())
        self._upstream = upstream
        self._check = check
        self._tls = tls
        self._received = b""

    @property
    def step(self) -> str:
        return "pass its health check"

    def connectionMade(self) -> None:
        if self._check == "tcp":
            self._passed()
        elif self._tls is None:
            self._ask()

    def handshakeCompleted(self) -> None:
        assert self._tls is not None
        try:
            self._tls.verify_peer(self.transport)
        except SessionError as error:
            self._fail(error)
        else:
            self._ask()

    def _ask(self) -> None:
        if not self._check.startswith("/"):
            self._passed()
            return
        authority = self._upstream.authority.encode(
            "idna" if not self._upstream.authority.isascii() else "ascii"
        )
        self.transport.write(
            b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (self._check.encode(), authority)
        )

    def dataReceived(self, data: bytes) -> None:
        self._received += data[:_MAX_ANSWER]
        if (found := _STATUS.match(self._received)) is not None and int(found[1]) >= 200:
            if int(found[1]) < 400:
                self._passed()
            else:
                self._fail(UpstreamLost(f"the health check was answered with {int(found[1])}"))
        elif len(self._received) >= _MAX_ANSWER:
            self._fail(UpstreamLost("the health check has no HTTP answer"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        error = self._tls.explain(reason.value) if self._tls is not None else None
        self._fail(error or UpstreamLost("the connection ended during the health check"))

    def _passed(self) -> None:
        opened, self.opened = self.opened, None
        self._abort()
        if opened is not None:
            opened.callback(self)

    def _fail(self, error: SessionError) -> None:
        opened, self.opened = self.opened, None
        self._abort()
        if opened is not None:
            opened.errback(Failure(error))

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

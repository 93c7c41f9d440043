"""Keeps track of the sessions of one proxy, and notifies the session observers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.request import Request
from esxiproxy.core.random_bytes import random_bytes
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.core.session.traffic import ConsoleTotals
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.interfaces import ISessionObserver

CHECK_INTERVAL = 0.05
"""Seconds between two checks of whether responses are acknowledged, when a drain waits only for these."""


class FlushingConnection(Protocol):
    """A client connection whose session has ended, but whose response is not acknowledged yet."""

    def is_flushed(self) -> bool:
        """Return whether the client has acknowledged the whole response."""

    def abort(self) -> None:
        """Abort the connection."""


class LiveSession(Protocol):
    """The client connection of a session."""

    session: Session

    def end(self, error: SessionError) -> None:
        """End the session with this error, and send its close code or status to both peers."""

    def abort(self) -> None:
        """Abort the connections of the session."""


def session_id() -> str:
    """Return a new session id, which is unique across machines."""
    return random_bytes(8).hex()


def log_bug(log: Logger, what: str, failure: Failure, session: str = "-") -> None:
    """Log the traceback of a bug, with tickets and other secrets removed."""
    log.error(
        "{what} in session {session}: {traceback}",
        what=what,
        session=session,
        traceback=redact_text(failure.getTraceback()),
    )


class Sessions:
    """The live sessions of one proxy, by their id."""

    _log = Logger()

    def __init__(self, observers: Iterable[ISessionObserver], clock: IReactorTime) -> None:
        self._observers = tuple(observers)
        self._refusal_observers = [each for each in self._observers if hasattr(each, "refused")]
        self._clock = clock
        self._live: dict[str, LiveSession] = {}
        self._when_empty: list[Deferred[None]] = []
        self._check: IDelayedCall | None = None
        self._aborted = False
        self.totals = ConsoleTotals()
        """The figures of all consoles since the start."""
        self.draining = False
        """Whether new sessions are refused because the proxy is draining."""
        self.retiring = False
        """Whether connections are closed after their response because another process serves new ones."""
        self.epoch = 0
        """Number of configuration changes so far."""
        self.idle_connections: set[Callable[[], None]] = set()
        """Functions that close an idle client connection, one for each."""
        self.event_streams: set[Callable[[], None]] = set()
        """Functions that end an event stream of the portal, which would last longer than a retirement."""
        self.flushing: set[FlushingConnection] = set()
        """Client connections whose session has ended and whose response is not acknowledged yet."""

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._live.values()))

    def __getitem__(self, identity: str) -> LiveSession:
        return self._live[identity]

    def new(self, request: Request, limits: SessionLimits, kind: Kind = Kind.CONSOLE) -> Session:
        """Return a new session for this request, which begins now."""
        return Session(request, limits, self._clock.seconds, kind)

    def add(self, live: LiveSession) -> None:
        """Add a live session; ``closed`` removes it."""
        self._live[live.session.id] = live

    def opened(self, session: Session) -> None:
        """Note that the console of this session is open, and notify the observers."""
        session.opened()
        for observer in self._observers:
            try:
                observer.opened(session)
            except BaseException:
                self._log_bug(observer, session.id)
        session.forget_head()

    def closed(self, session: Session) -> None:
        """Remove a session that has ended or was refused, and notify the observers."""
        self._live.pop(session.id, None)
        self._publish(session.record())
        if self._when_empty:
            self._check_empty()

    def wait_for_flush(self, connection: FlushingConnection) -> None:
        """Let a drain wait until the response of this connection is acknowledged or ``flushed`` is called."""
        if not self._aborted:
            self.flushing.add(connection)

    def flushed(self, connection: FlushingConnection) -> None:
        """Let a drain no longer wait for this connection."""
        self.flushing.discard(connection)
        if self._when_empty:
            self._check_empty()

    def _check_empty(self) -> None:
        if self._when_empty and not self._live and not self.flushing:
            waiting, self._when_empty = self._when_empty, []
            self._cancel_check()
            for deferred in waiting:
                deferred.callback(None)
        elif self._when_empty and not self._live and self._check is None:
            # The kernel reports no event when bytes are acknowledged.
            self._check = self._clock.callLater(CHECK_INTERVAL, self._check_flushed)

    def _check_flushed(self) -> None:
        self._check = None
        self.flushing -= {connection for connection in self.flushing if connection.is_flushed()}
        self._check_empty()

    def _cancel_check(self) -> None:
        check, self._check = self._check, None
        if check is not None:
            check.cancel()

    def abort(self, error: SessionError) -> None:
        """Abort every session and connection immediately; a drain does not wait for responses any more."""
        self._aborted = True
        for live in self:
            if not live.session.ended_by:
                live.session.failed(error)
            live.abort()
        flushing, self.flushing = self.flushing, set()
        for connection in flushing:
            connection.abort()
        self._check_empty()

    def close_idle(self) -> None:
        """Close idle client connections now, and all others after their current response."""
        self.retiring = True
        self.start_epoch()

    def start_epoch(self) -> None:
        """Close connections that were accepted with an earlier configuration, as ``close_idle`` does.

        Event streams end, and their pages open them again.
        """
        self.epoch += 1
        for close in [*self.idle_connections, *self.event_streams]:
            close()

    def is_stale(self, epoch: int) -> bool:
        """Return whether a connection that was accepted in this epoch closes after its current response."""
        return self.retiring or epoch != self.epoch

    def drain(self) -> None:
        """Refuse new sessions and close idle connections."""
        self.draining = True
        self.close_idle()

    def record_lost(self, record: Record) -> None:
        """Notify the observers of a session that ended because its process crashed."""
        self._publish(record)

    def refused(self, limit: str) -> None:
        """Notify the observers of a refusal under a limit."""
        for observer in self._refusal_observers:
            try:
                observer.refused(limit)
            except BaseException:
                self._log_bug(observer, "-")

    def resume(self) -> None:
        """Accept sessions again after a drain."""
        self.draining = self.retiring = self._aborted = False

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires when no session and no unacknowledged response is left."""
        deferred: Deferred[None] = Deferred(self._on_cancel)
        if self._live or self.flushing:
            self._when_empty.append(deferred)
            self._check_empty()
        else:
            deferred.callback(None)
        return deferred

    def _on_cancel(self, deferred: Deferred[None]) -> None:
        self._when_empty.remove(deferred)
        if not self._when_empty:
            self._cancel_check()

    def _publish(self, record: Record) -> None:
        for observer in self._observers:
            try:
                observer.closed(record)
            except BaseException:
                self._log_bug(observer, record.session)

    def _log_bug(self, observer: object, identity: str) -> None:
        log_bug(self._log, f"bug in a session observer ({observer!r})", Failure(), identity)

"""The sessions of one proxy, from admission to record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.request import Request
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.interfaces import ISessionObserver

LOOK = 0.05
"""Seconds between two looks at whether answers have arrived, while a drain waits for nothing else."""


class Leaving(Protocol):
    """A connection whose session is over, and whose client may not have all of the answer."""

    def answered(self) -> bool:
        """Return whether the client has acknowledged all of the answer."""

    def abort(self) -> None:
        """End the connection without a word."""


class LiveSession(Protocol):
    """Whoever holds a session's client connection."""

    session: Session

    def end(self, error: SessionError) -> None:
        """End the session and tell both peers why."""

    def abort(self) -> None:
        """End it without a word."""


def session_id() -> str:
    """A name that no other session has, on any machine."""
    return os.urandom(8).hex()


def log_bug(log: Logger, what: str, failure: Failure, session: str = "-") -> None:
    """A traceback for whoever has to mend it, the tickets in it hidden."""
    log.error(
        "{what} in session {session}: {traceback}",
        what=what,
        session=session,
        traceback=redact_text(failure.getTraceback()),
    )


class Sessions:
    """Knows every session that is admitted and has not ended, and tells the observers."""

    _log = Logger()

    def __init__(self, observers: Iterable[ISessionObserver], clock: IReactorTime) -> None:
        self._observers = tuple(observers)
        self._clock = clock
        self._live: dict[str, LiveSession] = {}
        self._when_empty: list[Deferred[None]] = []
        self._look: IDelayedCall | None = None
        self._aborted = False
        self.draining = False
        """Whether new sessions are refused, since the proxy is going away."""
        self.retiring = False
        """Whether a connection is closed when it has its answer, since another process takes the next one."""
        self.epoch = 0
        """How often the settings have changed."""
        self.idle_connections: set[Callable[[], None]] = set()
        """Closes a connection that has its answers and may ask again: called when no other may come on it."""
        self.flushing: set[Leaving] = set()
        """Connections whose session is over, and whose client has not got all of the answer."""

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._live.values()))

    def __getitem__(self, identity: str) -> LiveSession:
        return self._live[identity]

    def new(self, request: Request, limits: SessionLimits, kind: Kind = Kind.CONSOLE) -> Session:
        """A session for this request, running from now."""
        return Session(request, limits, self._clock.seconds, kind)

    def admitted(self, holder: LiveSession) -> None:
        """The session's upstream is being asked for."""
        self._live[holder.session.id] = holder

    def opened(self, session: Session) -> None:
        """The session's console is open."""
        session.opened()
        self._notify("opened", session, session.id)
        session.forget_head()

    def closed(self, session: Session) -> None:
        """The session has ended, whether it was ever open or not."""
        self._live.pop(session.id, None)
        self._notify("closed", session.record(), session.id)
        self._check_empty()

    def leave(self, connection: Leaving) -> None:
        """Let a drain wait until the client of this connection has its answer, or ``gone`` is called."""
        if not self._aborted:
            self.flushing.add(connection)

    def flushed(self, connection: Leaving) -> None:
        """It is not among those who are leaving any more, if it was."""
        self.flushing.discard(connection)
        self._check_empty()

    def _check_empty(self) -> None:
        if self._when_empty and not self._live and not self.flushing:
            waiting, self._when_empty = self._when_empty, []
            self._look_no_more()
            for deferred in waiting:
                deferred.callback(None)
        elif self._when_empty and not self._live and self._look is None:
            # No event says that bytes were acknowledged.
            self._look = self._clock.callLater(LOOK, self._look_for_answered)

    def _look_for_answered(self) -> None:
        self._look = None
        self.flushing -= {connection for connection in self.flushing if connection.answered()}
        self._check_empty()

    def _look_no_more(self) -> None:
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    def abort(self, error: SessionError) -> None:
        """End every session and every connection now, without a word, and wait for no answer any more."""
        self._aborted = True
        for holder in self:
            if not holder.session.ended_by:
                holder.session.failed(error)
            holder.abort()
        leaving, self.flushing = self.flushing, set()
        for connection in leaving:
            connection.abort()
        self._check_empty()

    def close_idle(self) -> None:
        """No second request on any connection from now on; those that are between two are closed at once."""
        self.retiring = True
        self.start_epoch()

    def start_epoch(self) -> None:
        """The settings have changed: the same for the connections that came under the ones before."""
        self.epoch += 1
        for close in list(self.idle_connections):
            close()

    def is_stale(self, epoch: int) -> bool:
        """Whether a connection of that epoch is closed when it has its answer."""
        return self.retiring or epoch != self.epoch

    def drain(self) -> None:
        """The same, and new sessions are refused."""
        self.draining = True
        self.close_idle()

    def record_lost(self, record: Record) -> None:
        """A session of another process has ended with it; the observers here are told of it."""
        self._notify("closed", record, record.session)

    def resume(self) -> None:
        """Take sessions again."""
        self.draining = self.retiring = self._aborted = False

    def when_empty(self) -> Deferred[None]:
        """Fires when no session and no part of an answer is left; at once when there is none."""
        deferred: Deferred[None] = Deferred(self._not_wanted)
        if self._live or self.flushing:
            self._when_empty.append(deferred)
            self._check_empty()
        else:
            deferred.callback(None)
        return deferred

    def _not_wanted(self, deferred: Deferred[None]) -> None:
        self._when_empty.remove(deferred)
        if not self._when_empty:
            self._look_no_more()

    def _notify(self, event: str, what: object, identity: str) -> None:
        for observer in self._observers:
            try:
                getattr(observer, event)(what)
            except Exception:
                log_bug(self._log, f"an observer raised ({observer!r})", Failure(), identity)

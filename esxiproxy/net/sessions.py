"""The sessions of one proxy, from admission to record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.errors import SessionError
from esxiproxy.core.limits import Limits
from esxiproxy.core.record import Kind, Record
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.request import Request
from esxiproxy.core.session import Session
from esxiproxy.interfaces import ISessionObserver


class Admitted(Protocol):
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
        self._admitted: dict[str, Admitted] = {}
        self._empty: list[Deferred[None]] = []
        self.draining = False
        """Whether new sessions are refused, since the proxy is going away."""
        self.retiring = False
        """Whether a connection is closed when it has its answer, since another process takes the next one."""
        self.epoch = 0
        """How often the settings have changed."""
        self.waiting: set[Callable[[], None]] = set()
        """Closes a connection that has its answers and may ask again: called when no other may come on it."""
        self.leaving: set[object] = set()
        """Connections whose session is over, and whose client has not got all of the answer."""

    def __len__(self) -> int:
        return len(self._admitted)

    def __iter__(self) -> Iterator[Admitted]:
        return iter(list(self._admitted.values()))

    def __getitem__(self, identity: str) -> Admitted:
        return self._admitted[identity]

    def new(self, request: Request, limits: Limits, kind: Kind = Kind.CONSOLE) -> Session:
        """A session for this request, running from now."""
        return Session(request, limits, self._clock.seconds, kind)

    def admitted(self, holder: Admitted) -> None:
        """The session's upstream is being asked for."""
        self._admitted[holder.session.id] = holder

    def opened(self, session: Session) -> None:
        """The session's console is open."""
        session.opened()
        self._tell("opened", session, session.id)
        session.forget_head()

    def closed(self, session: Session) -> None:
        """The session has ended, whether it was ever open or not."""
        self._admitted.pop(session.id, None)
        self._tell("closed", session.record(), session.id)
        self._look_if_empty()

    def gone(self, connection: object) -> None:
        """It is not among those who are leaving any more, if it was."""
        self.leaving.discard(connection)
        self._look_if_empty()

    def _look_if_empty(self) -> None:
        if self._empty and not self._admitted and not self.leaving:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def retire(self) -> None:
        """No second request on any connection from now on; those that are between two are closed at once."""
        self.retiring = True
        self.outdate()

    def outdate(self) -> None:
        """The settings have changed: the same for the connections that came under the ones before."""
        self.epoch += 1
        for close in list(self.waiting):
            close()

    def are_over(self, epoch: int) -> bool:
        """Whether a connection of that epoch is closed when it has its answer."""
        return self.retiring or epoch != self.epoch

    def drain(self) -> None:
        """The same, and new sessions are refused."""
        self.draining = True
        self.retire()

    def lost(self, record: Record) -> None:
        """A session of another process has ended with it; the observers here are told of it."""
        self._tell("closed", record, record.session)

    def resume(self) -> None:
        """Take sessions again."""
        self.draining = self.retiring = False

    def empty(self) -> Deferred[None]:
        """Fires when no session and no part of an answer is left; at once when there is none."""
        deferred: Deferred[None] = Deferred(lambda gone: self._empty.remove(gone))
        if self._admitted or self.leaving:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def _tell(self, event: str, what: object, identity: str) -> None:
        for observer in self._observers:
            try:
                getattr(observer, event)(what)
            except Exception:
                log_bug(self._log, f"an observer raised ({observer!r})", Failure(), identity)

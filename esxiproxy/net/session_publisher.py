"""Publishes the consoles of this process in the shared state, and executes commands of other processes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.coroutines import awaited
from esxiproxy.core.session.command import Command
from esxiproxy.core.session.entry import entry_of
from esxiproxy.core.session.record import CONSOLE, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver, IState
from esxiproxy.net.sessions import LiveSession, Sessions


@implementer(ISessionObserver)
class SessionPublisher:
    """An observer that publishes each console when it opens, and withdraws it when it ends."""

    _log = Logger()

    def __init__(
        self, state: IState, time_of_day: Callable[[], float] = time.time, machine: str = ""
    ) -> None:
        self._state = state
        self._machine = machine
        self._time_of_day = time_of_day
        self._published: set[str] = set()

    def opened(self, session: Session) -> None:
        if session.kind is CONSOLE:
            self._published.add(session.id)
            entry = entry_of(session, self._state.instance_id, self._time_of_day(), self._machine)
            self._log_failure(self._state.publish(entry))

    def closed(self, record: Record) -> None:
        if record.session in self._published:
            self._published.discard(record.session)
            self._log_failure(self._state.withdraw(record.session))

    def execute(self, command: Command, sessions: Sessions, section: str = "") -> None:
        """End the sessions that this command is for; do nothing if there are none.

        With a ``section``, only sessions on which its router or authenticator has decided are ended.
        """
        for live in self._selected(command, sessions):
            if section and not live.session.is_of(section):
                continue
            self._log.info(
                "session {session} is ended by a command: {verb}, reason: {reason}",
                session=live.session.id,
                verb=command.kind.value,
                reason=command.reason or "-",
            )
            live.end(command.error)

    def _selected(self, command: Command, sessions: Sessions) -> Sequence[LiveSession]:
        if command.selector is not None:
            return [live for live in sessions if command.selects(live.session)]
        try:
            live = sessions[command.session]
        except KeyError:
            return []
        return [live] if command.selects(live.session) else []

    def _log_failure(self, answer: Awaitable[None]) -> None:
        if isinstance(answer, Deferred) and answer.called and answer.result is None:
            return  # the usual case: state in memory
        asked = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(awaited(answer))
        asked.addErrback(
            lambda failure: self._log.failure(
                "update of the session list failed, the list may be wrong", failure
            )
        )

"""This process's consoles in the list of all processes, and what others want done with them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.session.command import Command
from esxiproxy.core.session.entry import entry_of
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver, IState
from esxiproxy.net.sessions import Sessions


@implementer(ISessionObserver)
class SessionPublisher:
    """Publishes a console when it is open, and takes it off the list with its record."""

    _log = Logger()

    def __init__(self, state: IState, day: Callable[[], float] = time.time) -> None:
        self._state = state
        self._day = day
        self._published: set[str] = set()

    def opened(self, session: Session) -> None:
        if session.kind is Kind.CONSOLE:
            self._published.add(session.id)
            self._ask(self._state.publish(entry_of(session, self._state.instance_id, self._day())))

    def closed(self, record: Record) -> None:
        if record.session in self._published:
            self._published.discard(record.session)
            self._ask(self._state.withdraw(record.session))

    def execute(self, command: Command, sessions: Sessions) -> None:
        """End the session that is meant; it may have ended by itself."""
        try:
            holder = sessions[command.session]
        except KeyError:
            return
        self._log.info(
            "session {session}: {verb}, as another process asks: {reason}",
            session=command.session,
            verb=command.kind.value,
            reason=command.reason or "-",
        )
        holder.end(command.error)

    def _ask(self, answer: Awaitable[None]) -> None:
        if isinstance(answer, Deferred) and answer.called and answer.result is None:
            return  # as a rule, in the memory of one process
        asked = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(_awaited(answer))
        asked.addErrback(lambda failure: self._log.failure("the list of sessions is wrong", failure))


async def _awaited(answer: Awaitable[None]) -> None:
    await answer

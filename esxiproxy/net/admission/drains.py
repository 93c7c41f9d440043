"""Keeps the drains of the shared state, and ends the sessions that they cover when their time has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import Draining, SessionError, StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.session.drain import (
    DEFAULT_REASON,
    Drain,
    DrainKind,
    Drains,
    InvalidDrain,
    drain_key,
    read_drain,
)
from esxiproxy.core.session.drain_table import DrainTable
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver, IState

INTERVAL = 1.0
"""Seconds between two reads of the drains."""
FIRST_READ = 5.0
"""Maximum number of seconds for which new sessions wait for the first read."""
NOTE_INTERVAL = 20.0
"""Seconds between two notes that the run of the master goes on."""


class LiveConsole(Protocol):
    """The interface of a live session that the drains need."""

    session: Session

    def end(self, error: SessionError) -> None:
        """End the session with this error."""


@implementer(ISessionObserver)
class ActiveDrains(Service):
    """The drains that hold in one process.

    They are read when the service starts, and then once a second.  While the state cannot be reached, the
    last known drains hold.  ``sessions`` returns the live sessions.  ``find`` returns the one of an id, or
    raises KeyError.  ``time_of_day`` reads the wall clock.
    """

    _log = Logger()

    def __init__(
        self,
        state: IState,
        clock: IReactorTime,
        sessions: Callable[[], Iterable[LiveConsole]],
        find: Callable[[str], LiveConsole],
        identity: ProcessIdentity | None = None,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity or ProcessIdentity()
        self.current = Drains(self.identity)
        """The drains as they are known now."""
        self._state = state
        self._table = DrainTable(state, self.identity, time_of_day)
        self.clock = clock
        self._sessions = sessions
        self._find = find
        self._time_of_day = time_of_day
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._reading: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] | None = None
        """Sessions that wait for the first read; None when none has to wait."""
        self._first_read_timeout: IDelayedCall | None = None
        self._values: dict[str, tuple[str, Drain | None]] = {}
        """The stored value of each key that was read last, and its drain unless it is invalid."""
        self._changes = 0
        """Number of changes by this process, since a read that began before a change is out of date."""
        self._used_changes = 0
        """The number of changes before the read whose result is used."""
        self._ended: frozenset[Drain] = frozenset()
        """The drains whose sessions were ended."""
        self._next_end = inf
        self._next_note = 0.0
        self._is_unavailable = False

    # Service

    def expect_start(self) -> None:
        """Let new sessions wait for the first read, while the state is being started."""
        if self._waiting is None:
            self._waiting = []
            self._first_read_timeout = self.clock.callLater(FIRST_READ, self._stop_waiting)

    def startService(self) -> None:
        super().startService()
        if self._loop.running:
            return
        self._next_note = self.clock.seconds()
        self._loop.start(INTERVAL)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._reading is not None:
            self._reading.cancel()
        self._stop_waiting()

    @property
    def may_refuse(self) -> bool:
        """Whether a console may be refused or has to wait: something is drained here, or nothing is known."""
        return self.current.has_own or self._waiting is not None

    # The first read

    def ready(self) -> Deferred[None] | None:
        """Return a Deferred that fires after the first read, or None when the drains are known."""
        if self._waiting is None:
            return None
        waiter: Deferred[None] = Deferred(self._leave)
        self._waiting.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[None]) -> None:
        if self._waiting is not None:
            self._waiting.remove(waiter)

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        timeout, self._first_read_timeout = self._first_read_timeout, None
        if timeout is not None and timeout.active():
            timeout.cancel()
        for waiter in waiting or ():
            waiter.callback(None)

    # Requests of this process

    async def drain(
        self,
        kind: DrainKind,
        name: str = "",
        machine: str = "",
        end: float = inf,
        by: str = "",
        reason: str = "",
    ) -> list[Drain]:
        """Drain an object as :meth:`DrainTable.drain` does; in this process it holds at once."""
        drained = await self._table.drain(kind, name, machine, end, by, reason)
        self._changes += 1
        targets = {drain.target for drain in drained}
        self._use([*(drain for drain in self.current.all if drain.target not in targets), *drained])
        self._end_due(drained)
        return drained

    async def undrain(self, kind: DrainKind, name: str = "", machine: str = "") -> list[Drain]:
        """Let an object take consoles again as :meth:`DrainTable.undrain` does, in this process at once."""
        removed = await self._table.undrain(kind, name, machine)
        self._changes += 1
        keys = {drain_key(drain) for drain in removed}
        self._use(drain for drain in self.current.all if drain_key(drain) not in keys)
        return removed

    def drains(self) -> list[Drain]:
        """Return the drains that are known now, also those of other machines, in order."""
        return list(self.current.all)

    # Reading

    def _tick(self) -> None:
        if self._reading is None:
            reading = self._reading = Deferred.fromCoroutine(self._update())
            reading.addErrback(self._read_failed)
            reading.addBoth(self._read)

    def _read_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):  # cancelled by stopService
            self._log.failure("bug: the drains cannot be read, the last known ones hold", failure)

    def _read(self, _result: object) -> None:
        self._reading = None
        self._stop_waiting()

    async def _update(self) -> None:
        """Read the drains and end those that are due, and log the first failure in a row.

        Nothing is ended before the read, since a drain may have been removed by another process.
        """
        try:
            await self._read_then_end()
            if self.clock.seconds() >= self._next_note:
                self._next_note = self.clock.seconds() + NOTE_INTERVAL
                await self._note_run()
        except StateUnavailable as error:
            if not self._is_unavailable:
                self._log.error(
                    "drains cannot be read from the shared state, the last known ones hold: {error}",
                    error=error,
                )
            self._is_unavailable = True
        else:
            if self._is_unavailable:
                self._log.info("drains are read from the shared state again")
            self._is_unavailable = False

    async def _read_then_end(self) -> None:
        try:
            is_current = await self._refresh()
        except (CancelledError, GeneratorExit):
            raise
        except BaseException:
            self._end_due(self.current.ends)  # the last known drains hold
            raise
        if is_current:
            self._end_due(self.current.ends)

    async def _refresh(self) -> bool:
        """Read the drains, and return whether they are used: not if they are out of date already."""
        changes = self._changes
        values = dict(await self._table.items())
        if changes != self._changes:
            return False  # the next read is up to date
        stored = {key: value for key, (value, _drain) in self._values.items()}
        if values == stored and changes == self._used_changes:
            return True
        lost = [drain for drain in self.current.all if self._is_own(drain) and drain_key(drain) not in values]
        if lost and not await self._table.is_noted():
            # They were removed because the run counted as ended, after a long interruption for example.
            await self._table.put_back(lost)
            await self._table.note_run()
            return False
        if changes != self._changes:
            return False
        self._used_changes = changes
        self._values = {key: (value, self._parsed(key, value)) for key, value in values.items()}
        self._use(drain for _value, drain in self._values.values() if drain is not None)
        return True

    def _is_own(self, drain: Drain) -> bool:
        return drain.kind.is_local and drain.is_of(self.identity.run)

    def _parsed(self, key: str, value: str) -> Drain | None:
        """Return the drain of a value, None for an invalid one, which is logged once."""
        known = self._values.get(key)
        if known is not None and known[0] == value:
            return known[1]
        try:
            return read_drain(value)
        except InvalidDrain as error:
            self._log.warn(
                "a drain in the shared state is ignored: {error}; undrain and drain again with this version",
                error=error,
            )
            return None

    async def _note_run(self) -> None:
        """Note that the master runs, and remove the drains of masters that have ended.

        One process of a master does the first, and one of all the second.
        """
        if await self._state.lead(f"run {self.identity.run}"):
            await self._table.note_run()
        if any(drain.kind.is_local for drain in self.current.all) and await self._state.lead("drains"):
            for drain in await self._table.remove_ended(self.current.all):
                self._log.info(
                    "the drain of {subject} is removed: its master has ended", subject=drain.subject
                )

    def _use(self, drains: Iterable[Drain]) -> None:
        """Let these drains hold from now on."""
        before, self.current = self.current, Drains(self.identity, drains)
        after = frozenset(self.current.all)
        for drain in before.all:
            if drain not in after and drain.is_of(self.identity.run):
                self._log.info("{subject} is no longer drained as before", subject=drain.subject)
        for drain in after.difference(before.all):
            if drain.is_of(self.identity.run):
                self._log_drained(drain)
        self._ended = self._ended.intersection(self.current.ends)
        self._next_end = min((drain.end for drain in self._pending), default=inf)

    def _log_drained(self, drain: Drain) -> None:
        left = drain.end - self._time_of_day()
        self._log.info(
            "{subject} is drained and takes no new consoles, asked for by {by}; {end}; reason: {reason}",
            subject=drain.subject,
            by=redact_text(drain.by) or "-",
            end=f"running ones end in {max(0.0, left):.0f} s" if left != inf else "running ones continue",
            reason=redact_text(drain.reason) or "-",
        )

    # The end of running sessions

    @property
    def _pending(self) -> list[Drain]:
        return [drain for drain in self.current.ends if drain not in self._ended]

    def _end_due(self, drains: Iterable[Drain]) -> None:
        """End the sessions of each of these drains whose end has come, once."""
        now = self._time_of_day()
        if now < self._next_end:
            return
        known = frozenset(drains)
        due = [drain for drain in self._pending if drain in known and drain.end <= now]
        if not due:
            return
        self._ended = self._ended.union(due)
        self._next_end = min((drain.end for drain in self._pending), default=inf)
        for live in self._sessions():
            self._end_if_covered(live, due)

    def _end_if_covered(self, live: LiveConsole, drains: Iterable[Drain]) -> None:
        if live.session.kind is not Kind.CONSOLE:
            return
        drain = next((drain for drain in drains if drain.covers(live.session)), None)
        if drain is None:
            return
        self._log.info(
            "session {session} is ended, since {subject} is drained",
            session=live.session.id,
            subject=drain.subject,
        )
        is_open = live.session.status == 101
        try:
            live.end(Draining(drain.reason or DEFAULT_REASON) if is_open else refusal_of(drain))
        except BaseException:  # the others are ended all the same, and drains are read on
            self._log.error(
                "bug: session {session} was not ended: {traceback}",
                session=live.session.id,
                traceback=redact_text(Failure().getTraceback()),
            )

    # ISessionObserver

    def opened(self, session: Session) -> None:
        """End a session that was dialled before a drain and opened after the end of it."""
        if self._ended and any(drain.covers(session) for drain in self._ended):
            self.clock.callLater(0, self._end_late, session.id)  # the relay starts after this call

    def _end_late(self, identity: str) -> None:
        try:
            live = self._find(identity)
        except KeyError:
            return
        self._end_if_covered(live, self._ended)

    def closed(self, record: Record) -> None:
        """Do nothing: the drains keep no session."""


def refusal_of(drain: Drain) -> Draining:
    """Return the error for a client whose console is refused; its detail is for the log."""
    by = f" by {drain.by}" if drain.by else ""
    error = Draining(f"{drain.subject} is drained{by}: {drain.reason or 'no reason was given'}")
    error.hide_detail = True
    return error

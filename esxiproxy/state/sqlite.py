"""The state of several processes on one machine: ``state = sqlite:PATH``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import Claim, Outcome
from esxiproxy.core.session.command import Command, Selector
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.listing import page
from esxiproxy.interfaces import IState
from esxiproxy.state.items import MAX_REPORTS, REPORTS, check_expiry, read_reports
from esxiproxy.state.lease import LEASE, RENEWALS_PER_LEASE, PeriodicTask
from esxiproxy.state.pending_writes import PendingWrites, WriteBatch
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.thread import DaemonThreads
from esxiproxy.state.times import Times

CALL_TIMEOUT = 3.0
"""Seconds after which a call fails.  SQLite's own timeout is shorter, but does not cover a hanging disk."""
POLL_INTERVAL = 1.0
"""Seconds between two polls for commands."""

_SLOW = f"the shared state did not answer within {CALL_TIMEOUT:g} s"
_STOPPED = "the shared state was stopped"

T = TypeVar("T")


@implementer(IState)
class SqliteState:
    """The state of one process in the database at ``path``.

    All calls run in one thread, in order, so that the reactor waits for no disk and for no other process.
    ``clock`` measures renewals, polls and timeouts; without it the reactor does.  Expiry times in the
    database are measured on the machine's clocks, ``times``.
    """

    _log = Logger()
    admits_when_down = False

    def __init__(
        self,
        path: Path,
        reactor: Any,
        pool: Any = None,
        times: Times | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.instance_id = secrets.token_hex(8)
        self._reactor = reactor
        self._clock: IReactorTime = clock or reactor
        self._store = SqliteStore(path, self.instance_id, times or Times.of_this_machine())
        self._pool: Any = pool if pool is not None else DaemonThreads("state")
        self._execute: Callable[[Command], None] = lambda command: None
        self._renewal = PeriodicTask(lambda: self._call(self._store.renew), "renewing the lease", self._clock)
        self._poll = PeriodicTask(self._poll_commands, "polling for commands", self._clock)
        self._pending = PendingWrites(self._write)
        self._reclaimed: dict[str, list[SessionEntry]] = {}
        """Results of ``reclaim`` that arrived after its timeout, by the instance reclaimed; the next call
        returns them."""
        self._expired: list[Sequence[SessionEntry]] = []
        """Results of ``reclaim_expired`` that arrived after its timeout; each is returned by a later call."""
        self._unavailable_reason = ""
        """Why calls fail at once: a call is overdue, or the state was stopped; empty while calls are made."""

    @property
    def since(self) -> float:
        """The time of day at which the table of marks was created."""
        return self._store.since

    def start(self, execute: Callable[[Command], None]) -> Deferred[None]:
        self._execute = execute
        self._unavailable_reason = ""
        self._pool.start()
        self._renewal.start(LEASE / RENEWALS_PER_LEASE)
        self._poll.start(POLL_INTERVAL)
        return self._call(self._store.renew)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._renewal.stop()
        self._poll.stop()
        timeout = 0.0 if self._unavailable_reason else CALL_TIMEOUT
        closing = deferToThreadPool(self._reactor, self._pool, self._store.close)
        try:
            await closing.addTimeout(timeout, self._clock, onTimeoutCancel=lambda *_: None)
        finally:  # also when this coroutine is cancelled
            self._pool.stop()
            self._unavailable_reason = _STOPPED
            self._pending.take_batch().fire()

    async def _poll_commands(self) -> None:
        for command in await self._call(self._store.commands):
            try:
                self._execute(command)
            except BaseException:
                self._log.failure("executing a command for a session failed")

    # IState

    def take(self, slot: str, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        def undo(outcome: tuple[Claim | None, Sequence[str]]) -> None:
            if outcome[1]:
                self._pool.callInThreadWithCallback(_ignored, self._store.undo_take, slot, outcome[1])

        taking = self._call(self._store.take, slot, tuple(claims), late=undo)
        return taking.addCallback(lambda outcome: outcome[0])

    def first_refused(self, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        return self._call(self._store.first_refused, tuple(claims))

    def give(self, slot: str, outcome: Outcome = Outcome.DONE) -> Deferred[None]:
        self._pending.release(slot, outcome)
        return self._deferred_write()

    def in_use(self, names: Sequence[str]) -> Deferred[Mapping[str, int]]:
        return self._call(self._store.in_use, tuple(names))

    def put(
        self,
        space: str,
        key: str,
        value: str,
        expires: float,
        new: bool = False,
        before: str | None = None,
    ) -> Deferred[bool]:
        try:
            check_expiry(expires)
        except ValueError:
            return fail()
        return self._call(self._store.put, space, key, value, expires, new, before)

    def get(self, space: str, key: str) -> Deferred[str | None]:
        return self._call(self._store.get, space, key)

    def pop(self, space: str, key: str) -> Deferred[str | None]:
        return self._call(self._store.pop, space, key)

    def remove(self, space: str, key: str) -> Deferred[None]:
        return self._call(self._store.remove, space, key)

    def items(self, space: str, after: str, most: int) -> Deferred[Sequence[tuple[str, str]]]:
        return self._call(self._store.items, space, after, most)

    def lead(self, task: str) -> Deferred[bool]:
        return self._call(self._store.lead, task)

    def publish(self, entry: SessionEntry) -> Deferred[None]:
        self._pending.publish(entry)
        return self._deferred_write()

    def withdraw(self, session: str) -> Deferred[None]:
        self._pending.withdraw(session)
        return self._deferred_write()

    def sessions(
        self, after: str = "", most: int | None = None, where: Selector | None = None
    ) -> Deferred[Sequence[SessionEntry]]:
        return self._call(self._store.sessions).addCallback(page, after, most, where)

    def report(self, figures: Mapping[str, float]) -> Deferred[None]:
        return self._call(self._store.report, json.dumps(dict(figures)))

    def reports(self) -> Deferred[Mapping[str, Mapping[str, float]]]:
        return self.items(REPORTS, "", MAX_REPORTS).addCallback(read_reports)

    def reclaim(self, holder: str) -> Deferred[Sequence[SessionEntry]]:
        def late(lost: Sequence[SessionEntry]) -> None:
            self._reclaimed.setdefault(holder, []).extend(lost)

        reclaiming = self._call(self._store.reclaim, holder, late=late)
        return reclaiming.addCallback(lambda lost: [*self._reclaimed.pop(holder, ()), *lost])

    def reclaim_expired(self, seconds: float) -> Deferred[Sequence[SessionEntry]]:
        if self._expired:
            return succeed(self._expired.pop())
        return self._call(self._store.reclaim_expired, seconds, late=self._keep_expired)

    def _keep_expired(self, lost: Sequence[SessionEntry]) -> None:
        if lost:
            self._expired.append(lost)

    def tell(self, command: Command) -> Deferred[bool]:
        return self._call(self._store.tell, command)

    # The thread

    def _deferred_write(self) -> Deferred[None]:
        """Return a Deferred that fires when all pending writes are made, or after ``CALL_TIMEOUT``.

        Writes that are late are not lost: they are made as soon as the thread can.
        """
        if self._unavailable_reason:
            self._pending.flush()
            return succeed(None)
        written = self._pending.written()
        return written.addTimeout(CALL_TIMEOUT, self._clock, onTimeoutCancel=self._stop_waiting)

    def _write(self, batch: WriteBatch) -> Deferred[Any]:
        """Make a batch in the thread."""
        what = batch.released, batch.entries
        writing = deferToThreadPool(self._reactor, self._pool, self._store.flush, *what)
        return writing.addErrback(self._log_failure).addCallback(lambda _: self._on_answer())

    def _call(
        self, call: Callable[..., T], *args: Any, late: Callable[[T], None] = lambda outcome: None
    ) -> Deferred[T]:
        """Make a call in the thread, and return a Deferred of its result.

        It fails with StateUnavailable after ``CALL_TIMEOUT``.  After a timeout or a cancellation, a call that
        has not begun is not made, and the result of one that has begun is passed to ``late``.  While a call
        is overdue, other calls fail at once.
        """
        if self._unavailable_reason:
            return fail(StateUnavailable(self._unavailable_reason))
        abandoned = False

        def abandon(_result: Deferred[T]) -> None:
            nonlocal abandoned
            abandoned = True

        def run() -> tuple[bool, Any]:
            return (False, None) if abandoned else (True, call(*args))

        def done(outcome: tuple[bool, Any]) -> None:
            self._on_answer()
            begun, value = outcome
            if not abandoned:
                result.callback(value)
            elif begun:
                late(value)

        def failed(failure: Failure) -> None:
            self._on_answer()
            if not abandoned:
                result.errback(failure)
            else:
                self._log_failure(failure)

        result: Deferred[T] = Deferred(abandon)
        deferToThreadPool(self._reactor, self._pool, run).addCallbacks(done, failed)
        return result.addTimeout(CALL_TIMEOUT, self._clock, onTimeoutCancel=self._fail_overdue)

    def _fail_overdue(self, _outcome: Any, _seconds: float) -> Any:
        self._unavailable_reason = self._unavailable_reason or _SLOW
        raise StateUnavailable(_SLOW)

    def _stop_waiting(self, _outcome: Any, _seconds: float) -> None:
        self._unavailable_reason = self._unavailable_reason or _SLOW

    def _on_answer(self) -> None:
        if self._unavailable_reason != _STOPPED:
            self._unavailable_reason = ""

    def _log_failure(self, failure: Failure) -> None:
        if not isinstance(failure.value, StateUnavailable):
            self._log.failure("bug: a call of the shared state raised an unexpected error", failure)


def _ignored(_success: bool, _outcome: Any) -> None:
    """Ignore the outcome; the next transaction makes the writes of one that failed."""

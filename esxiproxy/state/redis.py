"""The state of several machines: ``state = redis://HOST`` and ``rediss://HOST``."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import Claim, OnceClaim, Outcome
from esxiproxy.core.session.command import Command, Selector
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.interfaces import IState
from esxiproxy.state.items import MAX_REPORTS, REPORT_LIFE, REPORTS, check_expiry, read_reports
from esxiproxy.state.lease import LEASE, RENEWALS_PER_LEASE, PeriodicTask
from esxiproxy.state.pending_writes import PendingWrites, WriteBatch
from esxiproxy.state.redis_lists import SCRIPT
from esxiproxy.state.redis_store import RedisStore, Server

POLL_INTERVAL = 1.0
"""Seconds between two polls for commands, by which a process also finds that Redis has lost its data."""
PAGE = 500
"""Maximum number of sessions or items that one call reads."""
WRITE_TIMEOUT = 3.0
"""Seconds after which ``give``, ``publish`` and ``withdraw`` wait no longer for their write."""

T = TypeVar("T")


@implementer(IState)
class RedisState:
    """The state of one process in a Redis database.

    Every call is one script, so that it is made as a whole or not at all.  A lease is that of the process and
    not of a slot: one write each 5 s renews everything that a process has.

    With ``admits_when_down``, slots and rates are taken without Redis while it is away, and each process
    applies the limits by itself.  Marks of links never are.

    ``time_of_day`` is the time of the expiries of items, which is that of this machine.
    """

    _log = Logger()

    def __init__(
        self,
        server: Server,
        clock: IReactorTime,
        prefix: str = "esxiproxy",
        script: str = SCRIPT,
        admits_when_down: bool = False,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.instance_id = secrets.token_hex(8)
        self._server = server
        self._clock = clock
        self._time_of_day = time_of_day
        self.admits_when_down = admits_when_down
        self._store = RedisStore(server, script, prefix, self.instance_id, clock)
        self._execute: Callable[[Command], None] = lambda command: None
        self._renewal = PeriodicTask(lambda: self._store.call("renew"), "renewing the lease", clock)
        self._poll = PeriodicTask(self._poll_commands, "polling for commands", clock)
        self._pending = PendingWrites(self._write)
        self._is_stopped = False
        self._reclaimed: dict[str, dict[str, SessionEntry]] = {}
        """The sessions of dead processes that no caller has got yet, by process and by session."""

    @property
    def since(self) -> float:
        """The time of day, of the Redis server, at which its database was found empty."""
        return self._store.since

    def start(self, execute: Callable[[Command], None]) -> Deferred[None]:
        self._execute = execute
        self._server.start()
        self._renewal.start(LEASE / RENEWALS_PER_LEASE)
        self._poll.start(POLL_INTERVAL)
        return Deferred.fromCoroutine(self._store.call("renew")).addCallback(lambda _: None)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._is_stopped = True
        self._renewal.stop()
        self._poll.stop()
        try:
            with suppress(StateUnavailable):
                batch = self._pending.take_batch()
                batch.fire()
                await self._store.write(batch.released, {}, batch.undone)
            with suppress(StateUnavailable):
                await self._store.stop()
        finally:  # also when this coroutine is cancelled
            self._server.stop()

    async def _poll_commands(self) -> None:
        for text in await self._store.call("commands"):
            with suppress(ValueError, TypeError):  # of a newer version
                self._execute_or_log(Command.from_fields(*json.loads(text)))

    def _execute_or_log(self, command: Command) -> None:
        try:
            self._execute(command)
        except BaseException:
            self._log.failure("executing a command for a session failed")

    # Slots

    def take(self, slot: str, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        def late(outcome: tuple[Claim | None, Sequence[str]]) -> None:
            if outcome[1]:
                self._store.forget(slot, outcome[1])
                self._pending.undo(slot, outcome[1])

        taking = _uncancelled(self._take(slot, tuple(claims)), late)
        return taking.addCallback(lambda outcome: outcome[0])

    async def _take(self, slot: str, claims: Sequence[Claim]) -> tuple[Claim | None, Sequence[str]]:
        try:
            return await self._store.take(slot, claims, self._clock.seconds())
        except StateUnavailable as error:
            if not self._may_admit(error, claims):
                raise
        return self._store.take_alone(slot, claims, self._clock.seconds())

    def first_refused(self, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        return _uncancelled(self._first_refused(tuple(claims)))

    async def _first_refused(self, claims: Sequence[Claim]) -> Claim | None:
        try:
            return await self._store.first_refused(claims)
        except StateUnavailable as error:
            if not self._may_admit(error, claims):
                raise
        return self._store.look_alone(claims, self._clock.seconds())

    def _may_admit(self, error: StateUnavailable, claims: Sequence[Claim]) -> bool:
        """Return whether claims may be taken without Redis after this failure."""
        is_away = self.admits_when_down and error.is_away and not self._is_stopped
        return is_away and not any(isinstance(claim, OnceClaim) for claim in claims)

    def give(self, slot: str, outcome: Outcome = Outcome.DONE) -> Deferred[None]:
        self._pending.release(slot, outcome)
        return self._deferred_write()

    def in_use(self, names: Sequence[str]) -> Deferred[Mapping[str, int]]:
        return self._call("in_use", *names, done=lambda counts: dict(zip(names, counts, strict=True)))

    # Items

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
        left = max(0.0, expires - self._time_of_day())  # Redis adds its own time, which may be another one
        words = (space, key, value, f"+{left!r}", "1" if new else "0")
        return self._call("put", *words, *(() if before is None else (before,)), done=bool)

    def get(self, space: str, key: str) -> Deferred[str | None]:
        return self._call("get", space, key, done=_text)

    def pop(self, space: str, key: str) -> Deferred[str | None]:
        return self._call("pop", space, key, done=_text)

    def remove(self, space: str, key: str) -> Deferred[None]:
        return self._call("remove", space, key, done=lambda _: None)

    def items(self, space: str, after: str, most: int) -> Deferred[Sequence[tuple[str, str]]]:
        async def items() -> Sequence[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            while (wanted := min(PAGE, most - len(found))) > 0:
                begin = found[-1][0] if found else after
                words = [
                    _decoded(word) for word in await self._store.call("items", space, begin, str(wanted))
                ]
                found += zip(words[::2], words[1::2], strict=True)
                if len(words) < 2 * wanted:
                    break
            return found

        return _uncancelled(items())

    def lead(self, task: str) -> Deferred[bool]:
        return self._call("lead", task, done=bool)

    # Sessions

    def publish(self, entry: SessionEntry) -> Deferred[None]:
        self._pending.publish(entry)
        return self._deferred_write()

    def withdraw(self, session: str) -> Deferred[None]:
        self._pending.withdraw(session)
        return self._deferred_write()

    def sessions(
        self, after: str = "", most: int | None = None, where: Selector | None = None
    ) -> Deferred[Sequence[SessionEntry]]:
        async def sessions() -> Sequence[SessionEntry]:
            found: list[SessionEntry] = []
            begin = after
            while most is None or len(found) < most:
                wanted = PAGE if most is None or where is not None else min(PAGE, most - len(found))
                entries = _entries(await self._store.call("sessions", begin, str(wanted)))
                found += [entry for entry in entries if where is None or where.lists(entry)]
                if len(entries) < wanted:
                    break
                begin = entries[-1].cursor
            return found if most is None else found[: max(0, most)]

        return _uncancelled(sessions())

    def report(self, figures: Mapping[str, float]) -> Deferred[None]:
        words = (REPORTS, self.instance_id, json.dumps(dict(figures)), f"+{REPORT_LIFE}", "0")
        return self._call("put", *words, done=lambda _: None)

    def reports(self) -> Deferred[Mapping[str, Mapping[str, float]]]:
        return self.items(REPORTS, "", MAX_REPORTS).addCallback(read_reports)

    def reclaim(self, holder: str) -> Deferred[Sequence[SessionEntry]]:
        async def reclaim() -> Sequence[SessionEntry]:
            return await self._confirmed(holder, _entries(await self._store.call("reclaim", holder)))

        return _uncancelled(reclaim(), self._keep_lost)

    def reclaim_expired(self, seconds: float) -> Deferred[Sequence[SessionEntry]]:
        async def reclaim() -> Sequence[SessionEntry]:
            for holder in self._reclaimed:
                return await self._confirmed(holder, ())
            holder, found = await self._store.call("reclaim_expired", repr(float(seconds)))
            return await self._confirmed(_decoded(holder), _entries(found))

        return _uncancelled(reclaim(), self._keep_lost)

    async def _confirmed(self, holder: str, found: Sequence[SessionEntry]) -> Sequence[SessionEntry]:
        """Return the sessions of a dead process when Redis has noted that this process has them.

        They are kept for the next call if Redis cannot be reached.
        """
        entries = {**self._reclaimed.pop(holder, {}), **{entry.session: entry for entry in found}}
        try:
            is_noted = entries and await self._store.call("reclaimed", holder)
        except BaseException:
            self._keep_lost(entries.values())
            raise
        return sorted(entries.values(), key=lambda entry: entry.cursor) if is_noted else []

    def _keep_lost(self, lost: Iterable[SessionEntry]) -> None:
        for entry in lost:
            self._reclaimed.setdefault(entry.holder, {})[entry.session] = entry

    def tell(self, command: Command) -> Deferred[bool]:
        words = (json.dumps(command.fields()), command.session, "0" if command.selector is None else "1")
        return self._call("tell", *words, done=bool)

    # Writes

    def _call(self, name: str, *arguments: str, done: Callable[[Any], T]) -> Deferred[T]:
        return _uncancelled(self._store.call(name, *arguments, done=done))

    def _deferred_write(self) -> Deferred[None]:
        """Return a Deferred that fires when all pending writes were made or have failed.

        Those that have failed are made with the next registration.
        """
        written = self._pending.written()
        return written.addTimeout(WRITE_TIMEOUT, self._clock, onTimeoutCancel=lambda *_: None)

    def _write(self, batch: WriteBatch) -> Deferred[Any]:
        writing = Deferred.fromCoroutine(self._store.write(batch.released, batch.entries, batch.undone))
        return writing.addErrback(self._log_failure)

    def _log_failure(self, failure: Failure) -> None:
        if not isinstance(failure.value, StateUnavailable):
            self._log.failure("bug: a write to the shared state raised an unexpected error", failure)


def _uncancelled(
    coroutine: Coroutine[Any, Any, T], late: Callable[[T], None] = lambda outcome: None
) -> Deferred[T]:
    """Run a coroutine that a cancellation does not stop; its result is passed to ``late`` then."""
    cancelled = False

    def cancel(_result: Deferred[T]) -> None:
        nonlocal cancelled
        cancelled = True

    def done(value: T) -> None:
        if cancelled:
            late(value)
        else:
            result.callback(value)

    def failed(failure: Any) -> None:
        if not cancelled:
            result.errback(failure)

    result: Deferred[T] = Deferred(cancel)
    Deferred.fromCoroutine(coroutine).addCallbacks(done, failed)
    return result


def _decoded(word: bytes) -> str:
    return word.decode("utf-8", "surrogatepass")


def _text(value: bytes | None) -> str | None:
    return None if value is None else _decoded(value)


def _entries(texts: Sequence[bytes]) -> list[SessionEntry]:
    return [SessionEntry.from_fields(json.loads(text)) for text in texts if text]

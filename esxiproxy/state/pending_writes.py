"""Buffer of the writes that a process has not yet made in its database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from esxiproxy.core.session.claim import Outcome
from esxiproxy.core.session.entry import SessionEntry


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """The writes of one transaction.

    ``released`` has the slots to free, each with its outcome.  ``entries`` has sessions to publish, or None
    for a session to withdraw.  ``undone`` has claims to release, by the names of their slots, which were
    taken for a caller who is gone.  ``waiters`` fire after the transaction.
    """

    released: Mapping[str, Outcome]
    entries: Mapping[str, SessionEntry | None]
    undone: Sequence[tuple[str, Sequence[str]]]
    waiters: tuple[Deferred[None], ...]

    def fire(self) -> None:
        """Notify the waiters that the transaction was made, or has failed."""
        for waiter in self.waiters:
            waiter.callback(None)


class PendingWrites:
    """A buffer of the latest state of each slot and session that is not written yet.

    Its size is bounded by the number of slots and sessions, however long the database is unavailable: a
    session that was published and withdrawn in between leaves no entry.  ``write`` makes a batch, and never
    fails.
    """

    def __init__(self, write: Callable[[WriteBatch], Deferred[Any]]) -> None:
        self._write = write
        self._is_writing = False
        self._undone: list[tuple[str, Sequence[str]]] = []
        self._released: dict[str, Outcome] = {}
        self._entries: dict[str, SessionEntry | None] = {}
        self._waiters: list[Deferred[None]] = []
        self._published: set[str] = set()
        """The sessions that the batches taken so far have published and not withdrawn."""

    def __bool__(self) -> bool:
        return bool(self._released or self._entries or self._undone or self._waiters)

    def release(self, slot: str, outcome: Outcome) -> None:
        """Add a slot to free, unless it was added before."""
        self._released.setdefault(slot, outcome)

    def publish(self, entry: SessionEntry) -> None:
        """Add a session to publish."""
        self._entries[entry.session] = entry

    def withdraw(self, session: str) -> None:
        """Add a session to withdraw, or forget one that was never taken for publishing."""
        if session in self._published:
            self._entries[session] = None
        else:
            self._entries.pop(session, None)

    def undo(self, slot: str, claims: Sequence[str]) -> None:
        """Release claims of a slot, by their names, which were taken for a caller who is gone."""
        self._undone.append((slot, claims))
        self.flush()

    def written(self) -> Deferred[None]:
        """Write what is pending, and return a Deferred that fires when all of it is written or has failed."""
        written: Deferred[None] = Deferred()
        self._waiters.append(written)
        self.flush()
        return written

    def flush(self) -> None:
        """Write what is pending.  Writes that are added while a batch is written form the next batch."""
        if self._is_writing or not self:
            return
        self._is_writing = True
        batch = self.take_batch()

        def done(_outcome: Any) -> None:
            self._is_writing = False
            batch.fire()
            self.flush()

        self._write(batch).addCallback(done)

    def take_batch(self) -> WriteBatch:
        """Empty the buffer and return its content."""
        batch = WriteBatch(self._released, self._entries, self._undone, tuple(self._waiters))
        for session, entry in batch.entries.items():
            if entry is None:
                self._published.discard(session)
            else:
                self._published.add(session)
        self._released, self._entries, self._undone, self._waiters = {}, {}, [], []
        return batch

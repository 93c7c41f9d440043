"""Buffer of the writes that a process has not yet made in its database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from esxiproxy.core.session.claim import Outcome
from esxiproxy.core.session.entry import SessionEntry


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """The writes of one transaction.

    ``released`` has the slots to free, each with its outcome.  ``entries`` has sessions to publish, or None
    for a session to withdraw.  ``waiters`` fire after the transaction.
    """

    released: Mapping[str, Outcome]
    entries: Mapping[str, SessionEntry | None]
    waiters: tuple[Deferred[None], ...]


class PendingWrites:
    """A buffer of the latest state of each slot and session that is not written yet.

    Its size is bounded by the number of slots and sessions, however long the database is unavailable: a
    session that was published and withdrawn in between leaves no entry.
    """

    def __init__(self) -> None:
        self._released: dict[str, Outcome] = {}
        self._entries: dict[str, SessionEntry | None] = {}
        self._waiters: list[Deferred[None]] = []
        self._published: set[str] = set()
        """The sessions that the batches taken so far have published and not withdrawn."""

    def __bool__(self) -> bool:
        return bool(self._released or self._entries or self._waiters)

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

    def add_waiter(self, written: Deferred[None]) -> None:
        """Add a Deferred to fire when everything that is pending now has been written."""
        self._waiters.append(written)

    def take_batch(self) -> WriteBatch:
        """Empty the buffer and return its content."""
        batch = WriteBatch(self._released, self._entries, tuple(self._waiters))
        for session, entry in batch.entries.items():
            if entry is None:
                self._published.discard(session)
            else:
                self._published.add(session)
        self._released, self._entries, self._waiters = {}, {}, []
        return batch

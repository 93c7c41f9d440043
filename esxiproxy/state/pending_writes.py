"""What a holder has still to tell its database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from esxiproxy.core.session.entry import SessionEntry


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Slots to be given back, sessions to be listed (None: not any more), and who waits for that."""

    released: tuple[str, ...]
    entries: Mapping[str, SessionEntry | None]
    waiters: tuple[Deferred[None], ...]


class PendingWrites:
    """The last word on each slot and session, until it is paid.

    However long nobody can pay, they are no more than the slots and sessions that the database knows, and the
    sessions that are here now: one that has come and gone meanwhile is nothing.
    """

    def __init__(self) -> None:
        self._released: set[str] = set()
        self._entries: dict[str, SessionEntry | None] = {}
        self._waiters: list[Deferred[None]] = []
        self._published: set[str] = set()
        """The sessions that were to be listed when it was last paid."""

    def __bool__(self) -> bool:
        return bool(self._released or self._entries or self._waiters)

    def release(self, slot: str) -> None:
        """It is not taken any more."""
        self._released.add(slot)

    def publish(self, entry: SessionEntry) -> None:
        """It is to be listed."""
        self._entries[entry.session] = entry

    def withdraw(self, session: str) -> None:
        """It is not to be listed any more; nothing when it never was."""
        if session in self._published:
            self._entries[session] = None
        else:
            self._entries.pop(session, None)

    def add_waiter(self, paid: Deferred[None]) -> None:
        """Fire it with what is owed by now."""
        self._waiters.append(paid)

    def take_batch(self) -> WriteBatch:
        """All of them, which are none from now on."""
        payment = WriteBatch(tuple(self._released), self._entries, tuple(self._waiters))
        for session, entry in payment.entries.items():
            if entry is None:
                self._published.discard(session)
            else:
                self._published.add(session)
        self._released, self._entries, self._waiters = set(), {}, []
        return payment

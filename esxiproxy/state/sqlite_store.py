"""The blocking calls of a shared state, each of them one transaction on the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import Claim, Mark, OnceClaim, Outcome, RateClaim, SlotClaim
from esxiproxy.core.session.command import Command
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.items import (
    REPORT_LIFE,
    REPORTS,
    get_item,
    lead_task,
    list_items,
    put_item,
    remove_item,
)
from esxiproxy.state.lease import LEASE, LOST_SESSION_RETENTION
from esxiproxy.state.marks import disconnect, give_mark, restore_mark, taken_mark, write_mark
from esxiproxy.state.rows import (
    delete_holder,
    expired_before,
    expired_holders,
    first_refused,
    full_at,
    read_entries,
    read_lost,
    release_expired,
    slots_used,
    write_entry,
)
from esxiproxy.state.tables import Tables
from esxiproxy.state.times import Times

_SHORT_LIFE = 20.0
"""Seconds; a value that expires earlier, and replaces any other, may be lost in a crash of the machine."""
_COMMAND_LIFE = 60.0
"""Seconds after which processes of older versions ignore a command; later versions never do."""


class SqliteStore:
    """The slots and sessions of one instance, in memory and in the database.

    Calls must not run concurrently.  After a transaction failed or the file was replaced, the next one
    writes all slots and sessions of the instance again.
    """

    def __init__(self, path: Path, instance_id: str, times: Times) -> None:
        self._tables = Tables(path, times.since_boot, times.wall_clock)
        self._instance_id = instance_id
        self._times = times
        self._slots: dict[str, set[str]] = {}
        self._marks: dict[str, dict[str, Mark]] = {}
        self._given: list[tuple[str, Mark, Outcome]] = []
        """The marks that were released and are not written yet."""
        self._entries: dict[str, SessionEntry] = {}
        self._parsed: dict[str, SessionEntry] = {}
        """The sessions of the last call of ``sessions``, by the text that is stored of each."""
        self._written_generation = 0
        """The generation of the database that has all slots and sessions of this instance; 0 for none."""
        self._empty_version: tuple[int, int] | None = None
        """The ``Tables.version`` at which this instance had no commands."""

    @property
    def since(self) -> float:
        """The time of day since which no mark is missing, infinite before the database was opened."""
        return self._tables.since

    @contextmanager
    def _transaction(self, durable: bool = False) -> Iterator[tuple[sqlite3.Connection, float]]:
        with self._tables.transaction(durable or bool(self._given)) as db:
            now = self._times.since_boot()
            # Another process has deleted the rows of this instance if its lease was renewed too late.
            both = "SELECT 1 FROM holders JOIN leases USING (holder) WHERE holder = ?"
            found = db.execute(both, (self._instance_id,)).fetchone()
            if found is None or self._written_generation != self._tables.generation:
                self._write_all(db, now)
            self._write_outcomes(db)
            yield db, now
        self._given.clear()
        self._written_generation = self._tables.generation

    def _write_all(self, db: sqlite3.Connection, now: float) -> None:
        delete_holder(db, self._instance_id, self._times.wall_clock(), but="commands")
        self._write_lease(db, now)
        rows = [(name, slot, self._instance_id) for slot, names in self._slots.items() for name in names]
        db.executemany("INSERT OR IGNORE INTO slots VALUES (?, ?, ?)", rows)
        for marks in self._marks.values():
            for name, mark in marks.items():
                restore_mark(db, name, mark)
        for entry in self._entries.values():
            write_entry(db, entry)

    def _write_outcomes(self, db: sqlite3.Connection) -> None:
        for name, mark, outcome in self._given:
            give_mark(db, name, mark, outcome, self._times.wall_clock())

    def _write_lease(self, db: sqlite3.Connection, now: float) -> None:
        lease = (self._instance_id, self._times.boot, now + LEASE)
        db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", lease)
        by_day = (self._instance_id, self._times.wall_clock() + LEASE)
        db.execute("INSERT OR REPLACE INTO holders VALUES (?, ?)", by_day)

    def renew(self) -> None:
        """Renew the lease, and delete everything that has expired, other instances included."""
        self._tables.check_file()
        with self._transaction() as (db, now):
            self._write_lease(db, now)
            self._expire_leases(db, now)
            day = self._times.wall_clock()
            for table in ("lost", "marks", "items"):
                db.execute(f"DELETE FROM {table} WHERE expires <= ?", (day,))
            disconnect(db, "holder != '' AND holder NOT IN (SELECT holder FROM holders)", (), day)
            for table in ("leases", "commands", "leaders"):  # of instances that an older version deleted
                db.execute(f"DELETE FROM {table} WHERE holder NOT IN (SELECT holder FROM holders)")
            db.execute("DELETE FROM rates WHERE boot != ? OR full_at <= ?", (self._times.boot, now))

    def close(self) -> None:
        """Delete everything of this instance if the database is available, and close the connection."""
        self._slots.clear()
        self._marks.clear()
        self._entries.clear()
        with suppress(StateUnavailable), self._tables.transaction(bool(self._given)) as db:
            self._write_outcomes(db)
            delete_holder(db, self._instance_id, self._times.wall_clock())
        self._tables.close()

    def _expire_leases(self, db: sqlite3.Connection, now: float) -> bool:
        """Release everything of other instances with an expired lease; return whether there were any."""
        day = self._times.wall_clock()
        dead = [
            holder
            for holder in expired_holders(db, self._times.boot, now, day, 2 * LEASE)
            if holder != self._instance_id
        ]
        for holder in dead:
            release_expired(db, holder, day, day + LOST_SESSION_RETENTION)
        return bool(dead)

    def flush(self, slots: Mapping[str, Outcome], entries: Mapping[str, SessionEntry | None]) -> None:
        """Release slots, and publish sessions or withdraw those whose entry is None.

        Raises StateUnavailable; the next transaction makes the writes then.
        """
        given = [(slot,) for slot in slots if self._slots.pop(slot, None)]
        for slot, outcome in slots.items():
            marks = self._marks.pop(slot, {})
            self._given += [(name, mark, outcome) for name, mark in marks.items()]
        listed = [entry for entry in entries.values() if entry is not None]
        others = [session for session, entry in entries.items() if entry is None]
        ended = [(session,) for session in others if self._entries.pop(session, None)]
        self._entries.update((entry.session, entry) for entry in listed)
        if given or self._given or listed or ended:
            with self._with_pending() as db:
                db.executemany("DELETE FROM slots WHERE slot = ?", given)
                db.executemany("DELETE FROM sessions WHERE session = ?", ended)
                for entry in listed:
                    write_entry(db, entry)

    @contextmanager
    def _with_pending(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction; if it fails, the next one writes all slots and sessions again."""
        try:
            with self._transaction() as (db, _now):
                yield db
        except StateUnavailable:
            self._written_generation = 0
            raise

    # Slots

    def first_refused(self, claims: Sequence[Claim]) -> Claim | None:
        """Return the first claim that a new slot could not take now, or None; take none of them."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            day = self._times.wall_clock()
            return first_refused(db, "", claims, self._times.boot, now, self._instance_id, day)

    def take(self, slot: str, claims: Sequence[Claim]) -> tuple[Claim | None, Sequence[str]]:
        """Take all claims for a slot, or none.

        Returns the first claim that was refused, or None, and the names of the claims that are new to the
        slot.
        """
        # Without a durable write, a crash of the machine would let a link work again.
        once = [claim for claim in claims if isinstance(claim, OnceClaim)]
        with self._transaction(bool(once)) as (db, now):
            day = self._times.wall_clock()
            at = self._times.boot, now, self._instance_id, day
            full = first_refused(db, slot, claims, *at)
            if full is not None and self._expire_leases(db, now):
                full = first_refused(db, slot, claims, *at)
            if full is not None:
                return full, ()
            had = self._slots.get(slot, set())
            names = [claim.name for claim in claims if isinstance(claim, SlotClaim) and claim.name not in had]
            had_marks, marks = self._marks.get(slot, {}), dict[str, Mark]()
            for link in once:
                mark = taken_mark(db, link, slot, self._instance_id, day)
                assert mark is not None, "it was not refused"
                if link.name not in had_marks:
                    marks[link.name] = mark
                    write_mark(db, link.name, mark)
            for claim in claims:
                if isinstance(claim, RateClaim):
                    after = claim.spend(full_at(db, claim.name, self._times.boot), now)
                    row = (claim.name, self._times.boot, after)
                    db.execute("INSERT OR REPLACE INTO rates VALUES (?, ?, ?)", row)
            rows = [(name, slot, self._instance_id) for name in names]
            db.executemany("INSERT OR IGNORE INTO slots VALUES (?, ?, ?)", rows)
        if names:
            self._slots.setdefault(slot, set()).update(names)
        if marks:
            self._marks.setdefault(slot, {}).update(marks)
        return None, [*names, *marks]

    def undo_take(self, slot: str, names: Sequence[str]) -> None:
        """Undo a ``take`` whose caller was cancelled or timed out."""
        left = self._slots.get(slot, set()).difference(names)
        if left:
            self._slots[slot] = left
        else:
            self._slots.pop(slot, None)
        marks = self._marks.get(slot, {})
        self._given += [(name, marks.pop(name), Outcome.UNUSED) for name in names if name in marks]
        if not marks:
            self._marks.pop(slot, None)
        with self._with_pending() as db:
            rows = [(slot, name) for name in names]
            db.executemany("DELETE FROM slots WHERE slot = ? AND name = ?", rows)

    def in_use(self, names: Sequence[str]) -> Mapping[str, int]:
        """Return the number of slots taken, by the claim's name."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            return {name: slots_used(db, name) for name in names}

    # Items

    def put(
        self, space: str, key: str, value: str, expires: float, new: bool, before: str | None = None
    ) -> bool:
        """Store a value; return False if there is one and ``new`` is set, or it is not ``before``."""
        day = self._times.wall_clock()
        # A report that counts for seconds has no use after a crash of the machine.
        durable = new or expires - day > _SHORT_LIFE
        with self._transaction(durable) as (db, _now):
            return put_item(db, space, key, value, expires, new, before, day)

    def get(self, space: str, key: str) -> str | None:
        """Return a value, or None."""
        with self._transaction() as (db, _now):
            return get_item(db, space, key, self._times.wall_clock())

    def pop(self, space: str, key: str) -> str | None:
        """Return a value, or None, and delete it."""
        with self._transaction(durable=True) as (db, _now):
            found = get_item(db, space, key, self._times.wall_clock())
            remove_item(db, space, key)
        return found

    def remove(self, space: str, key: str) -> None:
        """Delete a value."""
        with self._transaction(durable=True) as (db, _now):
            remove_item(db, space, key)

    def items(self, space: str, after: str, most: int) -> Sequence[tuple[str, str]]:
        """Return the first keys after this one with their values."""
        with self._transaction() as (db, _now):
            return list_items(db, space, after, most, self._times.wall_clock())

    def report(self, figures: str) -> None:
        """Store the figures of this instance until the next but one report."""
        with self._transaction() as (db, _now):
            day = self._times.wall_clock()
            put_item(
                db, REPORTS, self._instance_id, figures, day + REPORT_LIFE, new=False, before=None, day=day
            )

    def lead(self, task: str) -> bool:
        """Return whether this instance leads a task."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            return lead_task(db, task, self._instance_id)

    # Sessions

    def sessions(self) -> Sequence[SessionEntry]:
        """Return the sessions of all instances, oldest first."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            texts = read_entries(db)
        # After the transaction, in which other processes wait.  Most sessions were there at the last call.
        known = self._parsed
        self._parsed = {text: known.get(text) or SessionEntry.from_fields(json.loads(text)) for text in texts}
        return list(self._parsed.values())

    def reclaim(self, holder: str) -> Sequence[SessionEntry]:
        """Delete everything of a dead instance and return its sessions, oldest first."""
        with self._transaction() as (db, _now):
            lost = read_lost(db, holder)
            delete_holder(db, holder, self._times.wall_clock())
        return lost

    def reclaim_expired(self, seconds: float) -> Sequence[SessionEntry]:
        """Reclaim one instance whose lease has been over for so long; return nothing if there is none."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            day = self._times.wall_clock()
            holder = expired_before(db, day + LOST_SESSION_RETENTION - seconds)
            if holder is None:
                return ()
            lost = read_lost(db, holder)
            delete_holder(db, holder, day)
        return lost

    def tell(self, command: Command) -> bool:
        """Store a command for the instances that it is for; return whether there are any."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            query, row = "SELECT holder FROM sessions WHERE session = ?", [command.session]
            if command.selector is not None:
                query, row = "SELECT holder FROM holders", []
            holders = db.execute(query, row).fetchall()
            text, expires = json.dumps(command.fields()), self._times.wall_clock() + _COMMAND_LIFE
            db.executemany(
                "INSERT INTO commands (holder, command, expires) VALUES (?, ?, ?)",
                [(holder, text, expires) for (holder,) in holders],
            )
        self._empty_version = None  # the command may be for this instance
        return bool(holders)

    def commands(self) -> Sequence[Command]:
        """Return the commands for this instance and delete them."""
        seen = self._tables.version()
        if (
            seen is not None
            and seen == self._empty_version
            and self._written_generation == self._tables.generation
        ):
            return ()
        with self._transaction() as (db, _now):
            rows = db.execute(
                "SELECT command FROM commands WHERE holder = ? ORDER BY number", (self._instance_id,)
            ).fetchall()
            db.execute("DELETE FROM commands WHERE holder = ?", (self._instance_id,))
        self._empty_version = seen
        found = []
        for (text,) in rows:
            with suppress(ValueError, TypeError):  # of a newer version
                found.append(Command.from_fields(*json.loads(text)))
        return found

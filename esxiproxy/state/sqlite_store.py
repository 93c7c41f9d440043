"""A holder's share of the database: every call one transaction, made in a thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import Claim, RateClaim
from esxiproxy.core.session.command import Command, CommandKind
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.lease import LEASE, LOST_SESSION_RETENTION
from esxiproxy.state.rows import (
    delete_holder,
    digest,
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

_COMMAND_LIFE = 60.0
"""Seconds after which a holder of an older version does not obey a command; others do while they live."""


class SqliteStore:
    """Knows what its holder has, and sees to it that the database does.

    No two of its calls may run at once.  What a transaction could not write, since the database was away, is
    written by the first one that can.
    """

    def __init__(self, path: Path, holder: str, times: Times) -> None:
        self._tables = Tables(path, times.since_boot)
        self._instance_id = holder
        self._times = times
        self._slots: dict[str, set[str]] = {}
        self._entries: dict[str, SessionEntry] = {}
        self._written_generation = 0
        """The generation of the database that has all of it; 0 when none has."""
        self._empty_version: tuple[int, int] | None = None
        """The state of the database in which there was no command for us."""

    @contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, float]]:
        with self._tables.transaction() as db:
            now = self._times.since_boot()
            # Another process may have taken this one for dead.
            both = "SELECT 1 FROM holders JOIN leases USING (holder) WHERE holder = ?"
            found = db.execute(both, (self._instance_id,)).fetchone()
            if found is None or self._written_generation != self._tables.generation:
                self._write_all(db, now)
            yield db, now
        self._written_generation = self._tables.generation

    def _write_all(self, db: sqlite3.Connection, now: float) -> None:
        delete_holder(db, self._instance_id, but="commands")
        self._write_lease(db, now)
        rows = [(name, slot, self._instance_id) for slot, names in self._slots.items() for name in names]
        db.executemany("INSERT OR IGNORE INTO slots VALUES (?, ?, ?)", rows)
        for entry in self._entries.values():
            write_entry(db, entry)

    def _write_lease(self, db: sqlite3.Connection, now: float) -> None:
        lease = (self._instance_id, self._times.boot, now + LEASE)
        db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", lease)
        by_day = (self._instance_id, self._times.wall_clock() + LEASE)
        db.execute("INSERT OR REPLACE INTO holders VALUES (?, ?)", by_day)

    def renew(self) -> None:
        """Keep the lease, and take away what has expired, other holders among it."""
        self._tables.check_file()
        with self._transaction() as (db, now):
            self._write_lease(db, now)
            self._expire_leases(db, now)
            for table in ("tokens", "tickets", "lost"):
                db.execute(f"DELETE FROM {table} WHERE expires <= ?", (self._times.wall_clock(),))
            for table in ("leases", "commands"):  # those of holders that an older version has buried
                db.execute(f"DELETE FROM {table} WHERE holder NOT IN (SELECT holder FROM holders)")
            db.execute("DELETE FROM rates WHERE boot != ? OR full_at <= ?", (self._times.boot, now))

    def close(self) -> None:
        """Leave nothing behind, as far as that can be done."""
        self._slots.clear()
        self._entries.clear()
        with suppress(StateUnavailable), self._tables.transaction() as db:
            delete_holder(db, self._instance_id)
        self._tables.close()

    def _expire_leases(self, db: sqlite3.Connection, now: float) -> bool:
        """Whether there was a holder whose lease has run out."""
        day = self._times.wall_clock()
        dead = [
            holder
            for holder in expired_holders(db, self._times.boot, now, day, 2 * LEASE)
            if holder != self._instance_id
        ]
        for holder in dead:
            release_expired(db, holder, day + LOST_SESSION_RETENTION)
        return bool(dead)

    def flush(self, slots: Sequence[str], entries: Mapping[str, SessionEntry | None]) -> None:
        """Give back slots, list sessions or (None) list them no more; the database may learn of it later."""
        given = [(slot,) for slot in slots if self._slots.pop(slot, None)]
        listed = [entry for entry in entries.values() if entry is not None]
        others = [session for session, entry in entries.items() if entry is None]
        ended = [(session,) for session in others if self._entries.pop(session, None)]
        self._entries.update((entry.session, entry) for entry in listed)
        if given or listed or ended:
            with self._with_pending() as db:
                db.executemany("DELETE FROM slots WHERE slot = ?", given)
                db.executemany("DELETE FROM sessions WHERE session = ?", ended)
                for entry in listed:
                    write_entry(db, entry)

    @contextmanager
    def _with_pending(self) -> Iterator[sqlite3.Connection]:
        """A transaction with what is so already: when it fails, the next one writes it."""
        try:
            with self._transaction() as (db, _now):
                yield db
        except StateUnavailable:
            self._written_generation = 0
            raise

    # Slots

    def take(self, slot: str, claims: Sequence[Claim]) -> tuple[Claim | None, Sequence[str]]:
        """The first claim that cannot be had; and if there is none, the names that are new to the slot."""
        with self._transaction() as (db, now):
            full = first_refused(db, slot, claims, self._times.boot, now)
            if full is not None and self._expire_leases(db, now):
                full = first_refused(db, slot, claims, self._times.boot, now)
            if full is not None:
                return full, ()
            had = self._slots.get(slot, set())
            names = [
                claim.name for claim in claims if not isinstance(claim, RateClaim) and claim.name not in had
            ]
            for claim in claims:
                if isinstance(claim, RateClaim):
                    after = claim.spend(full_at(db, claim.name, self._times.boot), now)
                    row = (claim.name, self._times.boot, after)
                    db.execute("INSERT OR REPLACE INTO rates VALUES (?, ?, ?)", row)
            rows = [(name, slot, self._instance_id) for name in names]
            db.executemany("INSERT OR IGNORE INTO slots VALUES (?, ?, ?)", rows)
        if names:
            self._slots.setdefault(slot, set()).update(names)
        return None, names

    def undo_take(self, slot: str, names: Sequence[str]) -> None:
        """Undo a ``take`` that nobody waits for any more."""
        left = self._slots.get(slot, set()).difference(names)
        if left:
            self._slots[slot] = left
        else:
            self._slots.pop(slot, None)
        with self._with_pending() as db:
            rows = [(slot, name) for name in names]
            db.executemany("DELETE FROM slots WHERE slot = ? AND name = ?", rows)

    def in_use(self, names: Sequence[str]) -> Mapping[str, int]:
        """Slots taken, by name."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            return {name: slots_used(db, name) for name in names}

    # Tokens and tickets

    def use(self, token: str, seconds: float) -> bool:
        """Whether this is the first use."""
        with self._transaction() as (db, _now):
            day = self._times.wall_clock()
            db.execute("DELETE FROM tokens WHERE token = ? AND expires <= ?", (digest(token), day))
            row = (digest(token), day + seconds)
            return db.execute("INSERT OR IGNORE INTO tokens VALUES (?, ?)", row).rowcount == 1

    def keep(self, ticket: str, content: str, seconds: float) -> None:
        """Keep it, or its new content."""
        with self._transaction() as (db, _now):
            row = (digest(ticket), content, self._times.wall_clock() + seconds)
            db.execute("INSERT OR REPLACE INTO tickets VALUES (?, ?, ?)", row)

    def kept(self, ticket: str, redeem: bool = False) -> str | None:
        """Its content, and with ``redeem`` for the last time."""
        with self._transaction() as (db, _now):
            row = (digest(ticket), self._times.wall_clock())
            found = db.execute("SELECT content FROM tickets WHERE ticket = ? AND expires > ?", row).fetchone()
            if redeem:
                db.execute("DELETE FROM tickets WHERE ticket = ?", row[:1])
        return None if found is None else str(found[0])

    # Sessions

    def sessions(self) -> Sequence[SessionEntry]:
        """All of them, the oldest first."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            return read_entries(db)

    def reclaim(self, holder: str) -> Sequence[SessionEntry]:
        """Take away all that a dead holder has or had; its sessions, the oldest first."""
        with self._transaction() as (db, _now):
            lost = read_lost(db, holder)
            delete_holder(db, holder)
        return lost

    def tell(self, command: Command) -> bool:
        """Leave a command for whoever has the session."""
        with self._transaction() as (db, now):
            self._expire_leases(db, now)
            row = (command.session,)
            found = db.execute("SELECT holder FROM sessions WHERE session = ?", row).fetchone()
            if found is None:
                return False
            text = json.dumps([command.kind.value, command.session, command.reason])
            db.execute(
                "INSERT INTO commands (holder, command, expires) VALUES (?, ?, ?)",
                (found[0], text, self._times.wall_clock() + _COMMAND_LIFE),
            )
        self._empty_version = None  # it may be for ourselves
        return True

    def commands(self) -> Sequence[Command]:
        """What is to be done, told once."""
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
        found = (json.loads(text) for (text,) in rows)
        return [Command(CommandKind(verb), session, reason) for verb, session, reason in found]

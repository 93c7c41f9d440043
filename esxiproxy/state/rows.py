"""Single SQL statements on the tables of a shared state; the caller opens the transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from esxiproxy.core.session.claim import Claim, OnceClaim, RateClaim, refused_mark
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.marks import disconnect, read_mark, taken_mark


def first_refused(
    db: sqlite3.Connection, slot: str, claims: Sequence[Claim], boot: str, now: float, holder: str, day: float
) -> Claim | None:
    """Return the first claim that cannot be taken now, or None.

    ``now`` is in seconds since boot, ``day`` the time of day.
    """
    for claim in claims:
        if isinstance(claim, RateClaim):
            if claim.spend(full_at(db, claim.name, boot), now) is None:
                return claim
        elif isinstance(claim, OnceClaim):
            if taken_mark(db, claim, slot, holder, day) is None:
                return refused_mark(read_mark(db, claim.name), claim)
        elif slots_used(db, claim.name) >= claim.limit_value:
            row = (claim.name, slot)
            if db.execute("SELECT 1 FROM slots WHERE name = ? AND slot = ?", row).fetchone() is None:
                return claim
    return None


def slots_used(db: sqlite3.Connection, name: str) -> int:
    """Return the number of slots taken under a claim's name."""
    found = db.execute("SELECT used FROM counts WHERE name = ?", (name,)).fetchone()
    return int(found[0]) if found else 0


def full_at(db: sqlite3.Connection, name: str, boot: str) -> float:
    """Return the time since boot at which a token bucket is full; 0 for a bucket of an earlier boot."""
    found = db.execute("SELECT full_at FROM rates WHERE name = ? AND boot = ?", (name, boot)).fetchone()
    return float(found[0]) if found else 0.0


def write_entry(db: sqlite3.Connection, entry: SessionEntry) -> None:
    """Insert or replace a published session."""
    row = (entry.session, entry.holder, entry.since, json.dumps(entry.fields()))
    db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", row)


def read_entries(db: sqlite3.Connection) -> Sequence[str]:
    """Return all published sessions as they are stored, oldest first."""
    return [text for (text,) in db.execute("SELECT entry FROM sessions ORDER BY since")]


def expired_holders(
    db: sqlite3.Connection, boot: str, now: float, day: float, longest: float
) -> Sequence[str]:
    """Return the IDs of the instances whose lease has expired.

    ``now`` is in seconds since boot.  A lease of another boot has expired.  Versions without the table
    ``leases`` have a lease by the time of day, ``day``.  A lease that ends more than ``longest`` seconds
    ahead counts as expired, since it was written before a clock was set back.
    """
    rows = db.execute(
        "SELECT holder FROM holders LEFT JOIN leases USING (holder) WHERE CASE WHEN boot IS NULL"
        " THEN holders.expires <= :day OR holders.expires > :day + :longest"
        " ELSE boot != :boot OR leases.expires <= :now OR leases.expires > :now + :longest END",
        {"boot": boot, "now": now, "day": day, "longest": longest},
    ).fetchall()
    return [holder for (holder,) in rows]


def delete_holder(db: sqlite3.Connection, holder: str, day: float, but: str = "") -> None:
    """Delete the rows of an instance in all tables except ``but``, and release its marks now, at ``day``."""
    disconnect(db, "holder = ?", (holder,), day)
    for table in ("slots", "sessions", "holders", "leases", "commands", "lost", "leaders"):
        if table != but:
            db.execute(f"DELETE FROM {table} WHERE holder = ?", (holder,))


def release_expired(db: sqlite3.Connection, holder: str, day: float, expires: float) -> None:
    """Delete the rows of an instance and keep its sessions in the table ``lost`` until ``expires``."""
    columns = "session, holder, since, entry"
    db.execute(
        f"INSERT OR REPLACE INTO lost SELECT {columns}, ? FROM sessions WHERE holder = ?", (expires, holder)
    )
    delete_holder(db, holder, day, but="lost")


def expired_before(db: sqlite3.Connection, latest: float) -> str | None:
    """Return an instance whose lost sessions are kept until ``latest`` or less, or None."""
    found = db.execute("SELECT holder FROM lost WHERE expires <= ? LIMIT 1", (latest,)).fetchone()
    return None if found is None else str(found[0])


def read_lost(db: sqlite3.Connection, holder: str) -> Sequence[SessionEntry]:
    """Return the sessions of an instance, published and lost, oldest first."""
    both = " UNION ALL ".join(
        f"SELECT since, entry FROM {table} WHERE holder = :holder" for table in ("sessions", "lost")
    )
    rows = db.execute(f"SELECT entry FROM ({both}) ORDER BY since", {"holder": holder}).fetchall()
    return [SessionEntry.from_fields(json.loads(text)) for (text,) in rows]

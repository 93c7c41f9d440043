"""Single statements on the tables of a shared state, within somebody's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from hashlib import sha256

from esxiproxy.core.session.claim import Claim, RateClaim
from esxiproxy.core.session.entry import SessionEntry


def first_refused(
    db: sqlite3.Connection, slot: str, claims: Sequence[Claim], boot: str, now: float
) -> Claim | None:
    """The first claim that cannot be had now."""
    for claim in claims:
        if isinstance(claim, RateClaim):
            if claim.spend(full_at(db, claim.name, boot), now) is None:
                return claim
        elif slots_used(db, claim.name) >= claim.limit_value:
            row = (claim.name, slot)
            if db.execute("SELECT 1 FROM slots WHERE name = ? AND slot = ?", row).fetchone() is None:
                return claim
    return None


def slots_used(db: sqlite3.Connection, name: str) -> int:
    """Slots taken under this name."""
    found = db.execute("SELECT used FROM counts WHERE name = ?", (name,)).fetchone()
    return int(found[0]) if found else 0


def full_at(db: sqlite3.Connection, name: str, boot: str) -> float:
    """When this bucket will be full again; one of another start of the machine is full."""
    found = db.execute("SELECT full_at FROM rates WHERE name = ? AND boot = ?", (name, boot)).fetchone()
    return float(found[0]) if found else 0.0


def write_entry(db: sqlite3.Connection, entry: SessionEntry) -> None:
    """List a session."""
    row = (entry.session, entry.holder, entry.since, json.dumps(entry.fields()))
    db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", row)


def read_entries(db: sqlite3.Connection) -> Sequence[SessionEntry]:
    """All that are listed, the oldest first."""
    rows = db.execute("SELECT entry FROM sessions ORDER BY since").fetchall()
    return [SessionEntry(**json.loads(text)) for (text,) in rows]


def expired_holders(
    db: sqlite3.Connection, boot: str, now: float, day: float, longest: float
) -> Sequence[str]:
    """The holders whose lease has run out, or was given on a clock that does not run any more.

    A holder of an older version has its lease by the time of day.  One that is further away than the
    ``longest`` was given before that was set back.
    """
    rows = db.execute(
        "SELECT holder FROM holders LEFT JOIN leases USING (holder) WHERE CASE WHEN boot IS NULL"
        " THEN holders.expires <= :day OR holders.expires > :day + :longest"
        " ELSE boot != :boot OR leases.expires <= :now OR leases.expires > :now + :longest END",
        {"boot": boot, "now": now, "day": day, "longest": longest},
    ).fetchall()
    return [holder for (holder,) in rows]


def delete_holder(db: sqlite3.Connection, holder: str, but: str = "") -> None:
    """Take away all that a holder has or had, but for one of the tables."""
    for table in ("slots", "sessions", "holders", "leases", "commands", "lost"):
        if table != but:
            db.execute(f"DELETE FROM {table} WHERE holder = ?", (holder,))


def release_expired(db: sqlite3.Connection, holder: str, expires: float) -> None:
    """Take away all that a holder has, and keep its sessions for whoever finds out what became of it."""
    columns = "session, holder, since, entry"
    db.execute(
        f"INSERT OR REPLACE INTO lost SELECT {columns}, ? FROM sessions WHERE holder = ?", (expires, holder)
    )
    delete_holder(db, holder, but="lost")


def read_lost(db: sqlite3.Connection, holder: str) -> Sequence[SessionEntry]:
    """All that this holder had listed, the oldest first."""
    both = " UNION ALL ".join(
        f"SELECT since, entry FROM {table} WHERE holder = :holder" for table in ("sessions", "lost")
    )
    rows = db.execute(f"SELECT entry FROM ({both}) ORDER BY since", {"holder": holder}).fetchall()
    return [SessionEntry(**json.loads(text)) for (text,) in rows]


def digest(secret: str) -> bytes:
    """What stands in the file for a token or a ticket: whoever reads it can use none of them."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()

"""SQL statements on the table of the marks of links; the caller opens the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import sha256

from esxiproxy.core.session.claim import Mark, OnceClaim, Outcome, take_mark


def taken_mark(db: sqlite3.Connection, claim: OnceClaim, slot: str, holder: str, day: float) -> Mark | None:
    """Return the mark as this slot would take it, or None if it cannot be taken."""
    return take_mark(read_mark(db, claim.name), claim, slot, holder, day)


def read_mark(db: sqlite3.Connection, name: str) -> Mark | None:
    """Return the stored mark, or None."""
    columns = "expires, reuse, count, until, slot, holder"
    row = db.execute(f"SELECT {columns} FROM marks WHERE mark = ?", (digest(name),)).fetchone()
    return None if row is None else Mark(*row)


def write_mark(db: sqlite3.Connection, name: str, mark: Mark) -> None:
    """Insert or replace a mark."""
    row = (digest(name), mark.expires, mark.reuse, mark.count, mark.until, mark.slot, mark.holder)
    db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def give_mark(db: sqlite3.Connection, name: str, taken: Mark, outcome: Outcome, day: float) -> None:
    """Release a mark that this slot has taken, unless another slot has it now.

    A mark whose holder has lost its lease was released as ``DONE``; the true outcome replaces that.
    """
    stored = read_mark(db, name)
    if stored is None or not is_of(stored, taken):
        return
    left = taken.given(outcome, day)
    if left is None:
        db.execute("DELETE FROM marks WHERE mark = ?", (digest(name),))
    else:
        write_mark(db, name, left)


def restore_mark(db: sqlite3.Connection, name: str, taken: Mark) -> None:
    """Write a mark again that was released when its holder lost its lease, unless another slot has it."""
    stored = read_mark(db, name)
    if stored is not None and is_of(stored, taken):
        write_mark(db, name, taken)


def is_of(stored: Mark, taken: Mark) -> bool:
    """Return whether no other slot has taken a mark since this slot did."""
    return stored.count == taken.count and (
        not stored.holder or (stored.slot, stored.holder) == (taken.slot, taken.holder)
    )


def disconnect(db: sqlite3.Connection, where: str, row: Sequence[str], day: float) -> None:
    """Release the marks of this condition as ``DONE``."""
    db.execute(
        "UPDATE marks SET until = CASE WHEN reuse > 0 THEN ? + reuse ELSE 0 END, slot = '', holder = ''"
        f" WHERE {where}",
        (day, *row),
    )


def digest(secret: str) -> bytes:
    """Return the SHA-256 digest that is stored for a token or ticket, so that the file has no secrets."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()

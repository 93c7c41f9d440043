"""SQL statements on the tables of items and of leaders; the caller opens the transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from math import isnan

REPORTS = "reports"
"""The space of the figures that processes report, by the id of the process."""
REPORT_LIFE = 15.0
"""Seconds for which a report counts; a new one comes every 5 s."""
MAX_REPORTS = 4096
"""Maximum number of processes whose reports are read."""


def read_reports(items: Sequence[tuple[str, str]]) -> Mapping[str, Mapping[str, float]]:
    """Return the figures of each process by its id."""
    return {process: json.loads(figures) for process, figures in items}


def check_expiry(expires: float) -> None:
    """Raise ValueError when the expiry of an item is no time."""
    if isnan(expires):
        raise ValueError("expires is no time of day")


def put_item(
    db: sqlite3.Connection,
    space: str,
    key: str,
    value: str,
    expires: float,
    new: bool,
    before: str | None,
    day: float,
) -> bool:
    """Store a value; return False if there is one and ``new`` is set, or it is not ``before``.

    A value that has expired counts as none.
    """
    if new or before is not None:
        found = get_item(db, space, key, day)
        if (new and found is not None) or (before is not None and found != before):
            return False
    db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", (space, key, value, expires))
    return True


def get_item(db: sqlite3.Connection, space: str, key: str, day: float) -> str | None:
    """Return a value that has not expired, or None."""
    query = "SELECT value FROM items WHERE space = ? AND key = ? AND expires > ?"
    found = db.execute(query, (space, key, day)).fetchone()
    return None if found is None else str(found[0])


def remove_item(db: sqlite3.Connection, space: str, key: str) -> None:
    """Delete a value, if there is one."""
    db.execute("DELETE FROM items WHERE space = ? AND key = ?", (space, key))


def list_items(
    db: sqlite3.Connection, space: str, after: str, most: int, day: float
) -> Sequence[tuple[str, str]]:
    """Return the first keys after this one, with their values, in the order of the keys."""
    query = "SELECT key, value FROM items WHERE space = ? AND key > ? AND expires > ? ORDER BY key LIMIT ?"
    return [(key, value) for key, value in db.execute(query, (space, after, day, max(0, most)))]


def lead_task(db: sqlite3.Connection, task: str, holder: str) -> bool:
    """Make this instance the leader of a task that has none, and return whether it is the leader."""
    # An older version deletes an instance without its row here.
    absent = "DELETE FROM leaders WHERE task = ? AND holder NOT IN (SELECT holder FROM holders)"
    db.execute(absent, (task,))
    db.execute("INSERT OR IGNORE INTO leaders VALUES (?, ?)", (task, holder))
    (leader,) = db.execute("SELECT holder FROM leaders WHERE task = ?", (task,)).fetchone()
    return bool(leader == holder)

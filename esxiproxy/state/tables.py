"""The database of a shared state: its tables, and a connection that comes back after a failure."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esxiproxy.core.errors import StateUnavailable

BUSY_TIMEOUT = 1.0
"""Seconds that a transaction waits for those of other processes."""
RETRY_DELAY = 1.0
"""Seconds after a failure in which nothing is tried: everybody behind it would wait as long as it did."""
SCHEMA_VERSION = 1
APPLICATION_ID = 0x65737870
"""What marks a database as ours: ``esxp``."""

_creation_lock = threading.Lock()

# Holders of an older version read and write the first table alone, and by the time of day: during an upgrade
# both are there.  What their version kept under other names is not touched.
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS holders (holder TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slots (
    name TEXT NOT NULL, slot TEXT NOT NULL, holder TEXT NOT NULL, PRIMARY KEY (name, slot)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slots_by_slot ON slots (slot);
CREATE INDEX IF NOT EXISTS slots_by_holder ON slots (holder);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS taken AFTER INSERT ON slots BEGIN
    INSERT INTO counts VALUES (NEW.name, 1) ON CONFLICT (name) DO UPDATE SET used = used + 1;
END;
CREATE TRIGGER IF NOT EXISTS given AFTER DELETE ON slots BEGIN
    UPDATE counts SET used = used - 1 WHERE name = OLD.name;
    DELETE FROM counts WHERE name = OLD.name AND used < 1;
END;
CREATE TABLE IF NOT EXISTS leases (
    holder TEXT PRIMARY KEY, boot TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rates (
    name TEXT PRIMARY KEY, boot TEXT NOT NULL, full_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (token BLOB PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tickets (
    ticket BLOB PRIMARY KEY, content TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    session TEXT PRIMARY KEY, holder TEXT NOT NULL, since REAL NOT NULL, entry TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_holder ON sessions (holder);
CREATE TABLE IF NOT EXISTS lost (
    session TEXT PRIMARY KEY, holder TEXT NOT NULL, since REAL NOT NULL, entry TEXT NOT NULL,
    expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lost_by_holder ON lost (holder);
CREATE TABLE IF NOT EXISTS commands (
    number INTEGER PRIMARY KEY, holder TEXT NOT NULL, command TEXT NOT NULL, expires REAL NOT NULL);
PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""


class Tables:
    """One connection to the database, used by one thread at a time.

    The file is made with mode 0600 when it is not there: it holds what tickets stand for.  A file that was
    taken away while it was open is made again.
    """

    def __init__(self, path: Path, seconds: Callable[[], float]) -> None:
        self._path = path
        self._seconds = seconds
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._down_until = float("-inf")
        self._failure = ""
        self.generation = 0
        """Goes up with each time that the database was opened: what was in it may be gone."""

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything or nothing; no other process writes meanwhile.  Raises StateUnavailable."""
        now = self._seconds()
        if now < self._down_until:
            raise StateUnavailable(self._failure)
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            self._down_until = self._seconds() + RETRY_DELAY  # from now: the failure took its time
            if not is_busy(error):
                self.close()
            # An error of the system names the file, and the client is told this.
            text = error.strerror if isinstance(error, OSError) else error
            self._failure = f"the shared state cannot be reached: {text}"
            raise StateUnavailable(self._failure) from error

    def version(self) -> tuple[int, int] | None:
        """Something else whenever another process has written; cheap to ask.  None when it cannot be told."""
        if self._connection is None:
            return None
        try:
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return self.generation, int(number)

    def close(self) -> None:
        """Let go of the file; the next transaction opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def check_file(self) -> None:
        """Let go of a file that is no longer the one at the path."""
        try:
            inode = os.stat(self._path).st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            self.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        _create_file(self._path)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection)
            self._inode = os.stat(self._path).st_ino
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.generation += 1
        return connection


def _create_file(path: Path) -> None:
    """Make an empty file for its owner alone, unless there is one.  Raises OSError.

    A file that exists is not opened: to close one of its descriptors takes away the POSIX locks that another
    connection of this process holds on it (fcntl(2)).
    """
    # O_EXCL follows no symbolic link.
    place, flags = os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # The lock: no other state of this process opens the new file before it is closed here.
    with _creation_lock, suppress(FileExistsError):
        os.close(os.open(place, flags, 0o600))


def check_application(connection: sqlite3.Connection) -> None:
    """Raises StateUnavailable for a database that is neither ours nor empty."""
    filled = _read_pragma(connection, "schema_version")  # first: another process may be filling it just now
    application, version = (
        _read_pragma(connection, "application_id"),
        _read_pragma(connection, "user_version"),
    )
    if application == APPLICATION_ID and version != SCHEMA_VERSION:
        raise StateUnavailable(f"the shared state is of version {version}, and this is {SCHEMA_VERSION}")
    if application != APPLICATION_ID and filled:
        raise StateUnavailable("the shared state is the database of another program")


def _prepare(connection: sqlite3.Connection) -> None:
    check_application(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    # What a machine's crash can take away is a lease or a used token of the last moments, never the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    # One that is ours may be older than the last of the tables, which those who made it never ask for.
    connection.executescript(_SCHEMA.format(application=APPLICATION_ID, version=SCHEMA_VERSION))


def _read_pragma(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)


def is_busy(error: Exception) -> bool:
    """Whether the connection is good, and only somebody else was too long at it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

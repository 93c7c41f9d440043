"""The database of a shared state: its schema, and a connection that is reopened after a failure."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esxiproxy.core.errors import StateUnavailable

BUSY_TIMEOUT = 1.0
"""Seconds that a transaction waits for the lock of another process."""
_SWITCH_RETRY_DELAY = 0.005
"""Seconds between two attempts to switch a new file to a write-ahead log."""
RETRY_DELAY = 1.0
"""Seconds after a failure in which calls fail at once, since each would wait as long as the failed one."""
SCHEMA_VERSION = 1
APPLICATION_ID = 0x65737870
"""SQLite's ``application_id`` of the databases of esxiproxy: ``esxp``."""

_creation_lock = threading.Lock()

# A holder is an instance: one process's share of the state, by its ID.
# During an upgrade, processes of an older version use the same database.  Of the leases they know only the
# table "holders", whose times are the time of day.  Tables that only older versions use are left alone.
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
CREATE TABLE IF NOT EXISTS items (
    space TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires);
CREATE TABLE IF NOT EXISTS leaders (task TEXT PRIMARY KEY, holder TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (
    mark BLOB PRIMARY KEY, expires REAL NOT NULL, reuse REAL NOT NULL, count INTEGER NOT NULL,
    until REAL NOT NULL, slot TEXT NOT NULL, holder TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS marks_by_holder ON marks (holder);
CREATE INDEX IF NOT EXISTS marks_by_expiry ON marks (expires);
CREATE TABLE IF NOT EXISTS origin (one INTEGER PRIMARY KEY CHECK (one = 1), since REAL NOT NULL);
INSERT OR IGNORE INTO origin VALUES (1, {day!r});
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

    A missing file is created with mode 0600, since it stores the names of clients, also when it was removed
    while it was open.  ``seconds`` is a clock that cannot be set, ``wall_clock`` the time of day.
    """

    def __init__(self, path: Path, seconds: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._path = path
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._down_until = float("-inf")
        self._failure = ""
        self.generation = 0
        """How often the database was opened; after each time its earlier content may be missing."""
        self.since = float("inf")
        """The time of day at which the table of marks was created, infinite before it was read."""

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Open a write transaction; commit it at the end of the block, or roll it back when the block raises.

        A ``durable`` transaction survives a crash of the machine, at the cost of a write to the disk.
        Raises StateUnavailable when the database fails, and for ``RETRY_DELAY`` seconds after that.
        """
        now = self._seconds()
        if now < self._down_until:
            raise StateUnavailable(self._failure)
        try:
            connection = self._open()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            self._down_until = self._seconds() + RETRY_DELAY  # read again: the failure may have taken seconds
            if not is_busy(error):
                self.close()
            # Without the path in the text of an OSError, since clients get this message.
            text = error.strerror if isinstance(error, OSError) else error
            self._failure = f"the shared state cannot be reached: {text}"
            raise StateUnavailable(self._failure) from error

    def version(self) -> tuple[int, int] | None:
        """Return a value that changes whenever another process has written, or None if it is unknown.

        The query reads no table and takes no lock.
        """
        if self._connection is None:
            return None
        try:
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return self.generation, int(number)

    def close(self) -> None:
        """Close the connection; the next transaction opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def check_file(self) -> None:
        """Close the connection if its file was removed or replaced."""
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
            _prepare(connection, self._wall_clock())
            (self.since,) = connection.execute("SELECT since FROM origin").fetchone()
            self._inode = os.stat(self._path).st_ino
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.generation += 1
        return connection


def _create_file(path: Path) -> None:
    """Create an empty file with mode 0600, unless it exists.  Raises OSError.

    An existing file is not opened: closing any descriptor of it releases the POSIX locks that other
    connections of this process have on it (fcntl(2)).
    """
    # O_EXCL does not follow symbolic links.
    place, flags = os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # The lock keeps other states of this process from opening the new file before it is closed here.
    with _creation_lock, suppress(FileExistsError):
        os.close(os.open(place, flags, 0o600))


def check_application(connection: sqlite3.Connection) -> None:
    """Raise StateUnavailable for a database of another program or of another schema version."""
    filled = _read_pragma(connection, "schema_version")  # first: another process may be creating the tables
    application, version = (
        _read_pragma(connection, "application_id"),
        _read_pragma(connection, "user_version"),
    )
    if application == APPLICATION_ID and version != SCHEMA_VERSION:
        raise StateUnavailable(
            f"the shared state has schema version {version}; this version of esxiproxy needs {SCHEMA_VERSION}"
        )
    if application != APPLICATION_ID and filled:
        raise StateUnavailable("the shared state is the database of another program")


def _prepare(connection: sqlite3.Connection, day: float) -> None:
    check_application(connection)
    use_write_ahead_log(connection)
    # The file may have been created by an older version, without the newest tables.
    connection.executescript(_SCHEMA.format(application=APPLICATION_ID, version=SCHEMA_VERSION, day=day))


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the database to a write-ahead log, unless it has one.

    A crash of the machine may then lose the last transactions that are not durable, but corrupts no file.
    SQLite does not wait for the lock of another process that switches the same new file, so the switch is
    repeated for ``BUSY_TIMEOUT`` seconds.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_SWITCH_RETRY_DELAY)


def _read_pragma(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)


def is_busy(error: Exception) -> bool:
    """Return whether the error only means that another process kept its lock too long."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

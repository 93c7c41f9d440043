"""The first opening of a database by several processes at once."""

import sqlite3

import pytest

from esxiproxy.state import tables


class Contended:
    """A connection whose first switches of the journal find the file locked by another process."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.statements = []

    def execute(self, statement):
        self.statements.append(statement)
        if len(self.statements) <= self.refusals:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error


def test_the_switch_to_a_write_ahead_log_is_repeated_while_another_process_has_the_lock():
    connection = Contended(3)
    tables.use_write_ahead_log(connection)
    assert connection.statements == ["PRAGMA journal_mode = WAL"] * 4


def test_the_switch_fails_when_the_lock_is_held_for_longer_than_the_busy_timeout(monkeypatch):
    monkeypatch.setattr(tables, "BUSY_TIMEOUT", 0.02)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        tables.use_write_ahead_log(Contended(1000))


def test_another_error_is_not_repeated():
    class Broken:
        def execute(self, statement):
            raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        tables.use_write_ahead_log(Broken())

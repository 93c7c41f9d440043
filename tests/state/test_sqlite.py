"""Failures of the database: locked, removed, corrupt, or of another program."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing

import pytest
from twisted.logger import globalLogPublisher

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state import tables
from esxiproxy.state.factory import check
from esxiproxy.state.lease import LEASE
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times
from tests.state.racers import race
from tests.support.outcome import result

ONE = SlotClaim("max_connections", "upstream 192.0.2.10", 1)


@pytest.fixture
def world(sqlite_world):
    return sqlite_world


def used(state):
    return result(state.in_use([ONE.name]))[ONE.name]


def test_the_database_file_has_mode_0600(world):
    result(world.new().take("a", [ONE]))
    for file in world.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


_LOCKS = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)  # SQLite's SHARED_FIRST
    except OSError:
        print("locked")
    else:
        print("free")
"""


@pytest.mark.parametrize("seen", ["directly", "by a link"])
def test_a_second_state_in_a_process_does_not_release_the_locks_of_the_first(world, seen, tmp_path):
    def locks():
        command = [sys.executable, "-c", _LOCKS, str(world.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    first, path = world.new(), world.path
    result(first.take("a", [ONE]))
    assert locks() == "locked"
    if seen == "by a link":
        world.path = tmp_path / "link"
        world.path.symlink_to(path)
    second = world.new()
    assert used(second) == 1
    assert check(world.path) is None
    assert locks() == "locked"
    result(second.stop())
    assert locks() == "locked"
    result(first.stop())
    assert locks() == "free"


def test_the_file_behind_a_dangling_link_is_created_with_mode_0600(world, tmp_path):
    world.path.symlink_to(tmp_path / "elsewhere")
    result(world.new().take("a", [ONE]))
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o600


def test_a_locked_database_is_unavailable_until_it_is_unlocked(world):
    state = world.new()
    other = world.another_program()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnavailable, match="cannot be reached: database is locked"):
        result(state.take("a", [ONE]))
    other.execute("ROLLBACK")
    world.advance(1)
    assert result(state.take("a", [ONE])) is None


def test_calls_soon_after_a_failure_fail_at_once(world):
    state = world.new()
    other = world.another_program()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnavailable):
        result(state.take("a", [ONE]))
    other.execute("ROLLBACK")
    with pytest.raises(StateUnavailable):  # although the database is unlocked
        result(state.take("a", [ONE]))


def test_only_one_of_many_concurrent_calls_waits_for_a_locked_database(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BUSY_TIMEOUT", 0.5)
    monkeypatch.setattr(tables, "RETRY_DELAY", 60.0)
    store, open_ = (
        SqliteStore(tmp_path / "state.sqlite", "holder", Times.of_this_machine()),
        tables.Tables._open,
    )
    store.renew()
    with closing(sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opened, before = [], time.monotonic()
        monkeypatch.setattr(tables.Tables, "_open", lambda self: opened.append(1) or open_(self))
        for number in range(12):
            with pytest.raises(StateUnavailable, match="locked"):
                store.take(str(number), [ONE])
    store.close()
    assert len(opened) == 1 and time.monotonic() - before >= 0.5


def test_releases_that_failed_are_made_later(world):
    state, watching = world.new(), world.new()
    entry = world.entry(state)
    result(state.take("a", [ONE])), result(state.publish(entry))
    other = world.another_program()
    other.execute("BEGIN IMMEDIATE")
    result(state.give("a")), result(state.withdraw(entry.session))
    late = world.entry(state)
    result(state.publish(late))
    other.execute("ROLLBACK")
    assert used(watching) == 1
    world.advance(LEASE / 2)
    assert used(watching) == 0
    assert list(result(watching.sessions())) == [late]


def test_a_removed_file_is_created_again_with_all_slots_and_sessions(world):
    one, other = world.new(), world.new()
    result(one.take("a", [ONE]))
    for file in world.path.parent.iterdir():
        file.unlink()
    world.advance(LEASE)
    assert used(other) == used(one) == 1
    assert result(other.take("b", [ONE])) == ONE


def test_a_corrupt_file_is_unavailable_and_not_changed(world):
    world.path.write_bytes(b"these are somebody's notes\n" * 100)
    state = world.new()
    with pytest.raises(StateUnavailable):
        result(state.take("a", [ONE]))
    assert world.path.read_bytes().startswith(b"these are")


def test_the_database_of_another_program_is_not_changed(world):
    sqlite3.connect(world.path).execute("CREATE TABLE theirs (x)").connection.commit()
    state = world.new()
    with pytest.raises(StateUnavailable, match="another program"):
        result(state.take("a", [ONE]))


def test_a_database_of_another_schema_version_is_refused(world):
    result(world.new().stop())
    world.another_program().execute("PRAGMA user_version = 99")
    with pytest.raises(StateUnavailable, match="version 99"):
        result(world.new().take("a", [ONE]))


def test_a_missing_table_is_created_in_an_older_database(world):
    result(world.new().stop())
    world.another_program().execute("DROP TABLE lost")
    assert list(result(world.new().reclaim("nobody"))) == []


def test_a_missing_folder_is_unavailable_and_its_path_is_hidden_from_clients(world):
    world.path = world.path.parent / "nowhere" / "state.sqlite"
    with pytest.raises(StateUnavailable) as refused:
        result(world.new().take("a", [ONE]))
    assert refused.value.public_message == "the shared state cannot be reached: No such file or directory"


def test_an_unavailable_state_is_logged_once_and_its_recovery_once(world):
    lines = []
    world.new()
    other = world.another_program()
    globalLogPublisher.addObserver(lines.append)
    try:
        other.execute("BEGIN IMMEDIATE")
        world.advance(3 * LEASE)
        other.execute("ROLLBACK")
        world.advance(LEASE)
    finally:
        globalLogPublisher.removeObserver(lines.append)
    told = [line["log_format"].split(",")[0] for line in lines if line.get("what") == "renewing the lease"]
    assert told == ["shared state unavailable", "shared state available again"]


_RACER = """
import sys
from pathlib import Path
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times

store = SqliteStore(Path(sys.argv[1]), sys.argv[2], Times.of_this_machine())
sys.stdin.readline()
won = 0
for number in range(50):
    full, _names = store.take(f"{sys.argv[2]}-{number}", [SlotClaim("max_sessions", "listener", 100)])
    won += full is None
print(won)
sys.stdin.readline()
"""


def test_real_processes_that_start_concurrently_share_one_limit(tmp_path):
    won = race(_RACER, tmp_path / "state.sqlite", 6)
    assert sum(won) == 100


# Before the start


def test_check_accepts_an_existing_database_and_a_path_for_a_new_one(world, tmp_path):
    assert check(tmp_path / "new") is None and not (tmp_path / "new").exists()
    result(world.new().take("a", [ONE]))
    assert check(world.path) is None
    other = world.another_program()
    other.execute("BEGIN EXCLUSIVE")
    assert check(world.path) is None, "somebody is at it just now"


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("", "is not a file"),
        ("text", "text: file is not a database"),
        ("foreign", "foreign: the shared state is the database of another program"),
        ("later", "later: the shared state has schema version 7; this version of esxiproxy needs 1"),
    ],
)
def test_check_says_why_a_path_cannot_be_used(tmp_path, place, problem):
    (tmp_path / "text").write_text("this is no database, and long enough to be sure of it" * 20)
    _database(tmp_path / "foreign", "CREATE TABLE somebodys (column TEXT)")
    _database(
        tmp_path / "later", f"PRAGMA application_id = {tables.APPLICATION_ID}", "PRAGMA user_version = 7"
    )
    found = check(tmp_path / place)
    assert found is not None and re.search(problem, found), found


def test_check_reports_a_path_without_write_permission(tmp_path, monkeypatch):
    (tmp_path / "state").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root has access to everything
    assert check(tmp_path / "state") == f"{tmp_path}/state is not readable and writable"
    assert check(tmp_path / "new") == f"the folder {tmp_path} is not writable"


def _database(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("seconds", "new", "is_durable"), [(15, False, False), (15, True, True), (3600, False, True)]
)
def test_only_values_that_outlast_a_crash_of_the_machine_wait_for_the_disk(
    world, monkeypatch, seconds, new, is_durable
):
    state, modes = world.new(), []
    transaction = tables.Tables.transaction

    def noted(self, durable=False):
        modes.append(durable)
        return transaction(self, durable)

    monkeypatch.setattr(tables.Tables, "transaction", noted)
    assert result(state.put("space", "key", "value", world.time_of_day() + seconds, new))
    assert modes == [is_durable] and result(state.get("space", "key")) == "value"


def test_sessions_that_were_read_before_are_not_parsed_again(world, monkeypatch):
    state, other = world.new(), world.new()
    entries = [world.entry(other) for _ in range(3)]
    for entry in entries:
        result(other.publish(entry))
    assert result(state.sessions()) == entries
    parsed = []

    class Noting(SessionEntry):
        @classmethod
        def from_fields(cls, fields):
            parsed.append(fields["session"])
            return SessionEntry.from_fields(fields)

    monkeypatch.setattr("esxiproxy.state.sqlite_store.SessionEntry", Noting)
    result(other.withdraw(entries[0].session))
    changed = world.entry(other, session=entries[1].session, principal="bob", since=entries[2].since + 1)
    result(other.publish(changed))
    assert result(state.sessions()) == [entries[2], changed] and parsed == [changed.session]

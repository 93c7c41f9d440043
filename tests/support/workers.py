"""Several workers as processes: their sessions, records, reloads and ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.support.crowd import (
    Crew,
)
from tests.support.programs import until
from tests.support.websocket_peers import Client

Text = Callable[..., str]


def gone(pid: int) -> bool:
    """Return whether there is no such process, or only its zombie."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def published(crew: Crew, count: int) -> None:
    """Wait until all of them are in the list of sessions."""
    database = next(crew.folder.glob("esxiproxy-*/state.sqlite"))

    def listed() -> bool:
        with sqlite3.connect(database, timeout=10) as connection:
            return bool(connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == count)

    until(listed, f"{count} sessions are listed")


def records(crew: Crew) -> list[str]:
    """Return the ids of the sessions that are recorded as lost."""
    return re.findall(r"session (\w+) one 127.0.0.1:\d+ /ticket/\*\*\* .*WorkerLost", crew.log())


def expired(crew: Crew) -> None:
    """Let all leases expire, as time would; processes that run renew theirs."""
    database = next(crew.folder.glob("esxiproxy-*/state.sqlite"))
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        for table in ("holders", "leases"):
            connection.execute(f"UPDATE {table} SET expires = 1")


def reloaded(crew: Crew, outcome: str = "is in force") -> None:
    """Send SIGHUP, and wait for its outcome in the log."""
    before = crew.log().count(outcome)
    os.kill(crew.pid, signal.SIGHUP)
    until(lambda: crew.log().count(outcome) > before, f"reload: {outcome}", 40)


def refuses(port: int) -> bool:
    """Return whether connections to the port are refused."""
    try:
        Client(port, timeout=1).drop()
    except ConnectionRefusedError:
        return True
    return False

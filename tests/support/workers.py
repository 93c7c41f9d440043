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
    """Whether there is no such process, or only its zombie."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def published(crew: Crew, count: int) -> None:
    """Until all of them are in the list of sessions."""
    database = next(crew.folder.glob("esxiproxy-*/state.sqlite"))

    def listed() -> bool:
        with sqlite3.connect(database, timeout=10) as connection:
            return bool(connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == count)

    until(listed, f"{count} sessions are listed")


def records(crew: Crew) -> list[str]:
    """The ids of the sessions that are recorded as lost."""
    return re.findall(r"session (\w+) one 127.0.0.1:\d+ /ticket/\*\*\* .*WorkerLost", crew.log())


def expired(crew: Crew) -> None:
    """Everybody's lease runs out, as by the time; whoever is alive takes a new one."""
    database = next(crew.folder.glob("esxiproxy-*/state.sqlite"))
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        for table in ("holders", "leases"):
            connection.execute(f"UPDATE {table} SET expires = 1")


def reloaded(crew: Crew, outcome: str = "is in force") -> None:
    """SIGHUP, and its outcome is in the log."""
    before = crew.log().count(outcome)
    os.kill(crew.pid, signal.SIGHUP)
    until(lambda: crew.log().count(outcome) > before, f"reload: {outcome}", 40)


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        Client(port, timeout=1).drop()
    except ConnectionRefusedError:
        return True
    return False

"""Makes the state that a configuration names, and checks its database before the start."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.config.state_url import RedisAddress, StateDown
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.interfaces import IState
from esxiproxy.state.memory import MemoryState
from esxiproxy.state.redis import RedisState
from esxiproxy.state.redis_connection import RedisConnection
from esxiproxy.state.redis_endpoint import check_files
from esxiproxy.state.sqlite import SqliteState
from esxiproxy.state.tables import BUSY_TIMEOUT, check_application, is_busy

_DATABASE_DESCRIPTORS = 3
"""Descriptors that a state in a database opens after its start: the file, its log and its index."""


def open_state(place: Path | RedisAddress | None, reactor: Any, clock: IReactorTime) -> IState:
    """Return the state in a file or in Redis, or without a place one in the memory of this process.

    ``clock`` measures its durations; the reactor takes the calls from its thread.
    """
    if isinstance(place, RedisAddress):
        connection = RedisConnection(place, reactor, clock)
        admits = place.when_down is StateDown.ADMIT
        redis: IState = RedisState(connection, clock, place.prefix, admits_when_down=admits)
        return redis
    state: IState = MemoryState(clock) if place is None else SqliteState(place, reactor, clock=clock)
    return state


def descriptors_of(place: Path | RedisAddress | None) -> int:
    """Return the number of descriptors that a state opens after its start."""
    if place is None:
        return 0
    if isinstance(place, RedisAddress):
        return 1 if place.service is None else 1 + len(place.service.sentinels)
    return _DATABASE_DESCRIPTORS


def check(place: Path | RedisAddress | None) -> str | None:
    """Return why no state can be opened, as a sentence, or None if one can be.

    A Redis server is not connected: it may be away when the proxy starts.
    """
    if isinstance(place, RedisAddress):
        return check_files(place)
    return _check_file(place)


def _check_file(path: Path | None) -> str | None:
    """Return why no database can be used at ``path``, as a sentence, or None if one can be.

    Nothing is created or changed.  A database that another process has locked counts as usable.
    """
    if path is None:
        return None
    if not path.exists():
        return _check_folder(path.absolute().parent)
    if not path.is_file():
        return f"{path} is not a file"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} is not readable and writable"
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, timeout=BUSY_TIMEOUT, uri=True)) as connection:
            check_application(connection)
    except StateUnavailable as error:
        return f"{path}: {error.detail}"
    except sqlite3.Error as error:
        return None if is_busy(error) else f"{path}: {error}"
    return _check_folder(path.absolute().parent)  # SQLite creates its journal there


def _check_folder(folder: Path) -> str | None:
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} is not writable"
    return None

"""The state that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esxiproxy.interfaces import IState
from esxiproxy.state.memory import MemoryState
from esxiproxy.state.sqlite import SqliteState


def open_state(path: Path | None, reactor: Any) -> IState:
    """The state in a database that several processes share, or that of one process."""
    state: IState = MemoryState(reactor) if path is None else SqliteState(path, reactor)
    return state

"""The messages between the master and a worker, and the descriptors of their pipes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import count
from typing import Self

from esxiproxy.workers.plan import Plan

COMMANDS_FD = 3
"""The descriptor on which the worker reads its configuration and then commands, until the master exits."""
REPORTS_FD = 4
"""The descriptor on which the worker writes reports and log lines."""
FIRST_INHERITED_FD = 5
"""The first of the descriptors that the worker inherits."""


class WorkerCommand(Enum):
    """A command of the master to a worker.  Its value is the text on the pipe."""

    OPEN = "open"
    """Start accepting connections."""
    RETIRE = "retire"
    """Stop accepting, and exit when the last session has ended."""
    DRAIN = "drain"
    """Stop accepting, and exit within ``drain_timeout``."""
    NOW = "now"
    """Close all sessions, and exit."""
    RECORD_LOST = "bury"
    """Record the sessions of the crashed worker with this instance ID."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of one worker: its number, the path of the file, and inherited descriptors.

    ``listeners`` has the descriptor of each listening socket by the listener's name, ``board`` is that of
    the scoreboard, and ``wakes`` has an eventfd for each worker.  ``endpoints`` are the names and the
    Twisted endpoint descriptions of the bound sockets.  ``state`` is the path of the database.  ``content``
    is the text of the configuration file that is in force; when it is empty, the worker reads the file.
    """

    number: int
    config: str
    endpoints: tuple[tuple[str, str], ...]
    listeners: Mapping[str, int]
    state: str
    board: int
    wakes: tuple[int, ...]
    content: str = ""

    @classmethod
    def for_worker(
        cls,
        number: int,
        plan: Plan,
        config: str,
        sockets: Mapping[str, int],
        state: str,
        board: int,
        wakes: Sequence[int],
    ) -> tuple[Self, dict[int, int]]:
        """Return the configuration of a worker, and a map of its descriptors to those of this process."""
        child_fds = count(FIRST_INHERITED_FD)
        child_listeners = {name: next(child_fds) for name in sockets}
        inherited = {child_listeners[name]: descriptor for name, descriptor in sockets.items()}
        child_board, child_wakes = next(child_fds), tuple(next(child_fds) for _ in wakes)
        inherited |= {child_board: board, **dict(zip(child_wakes, wakes, strict=True))}
        worker = cls(
            number, config, plan.endpoints, child_listeners, state, child_board, child_wakes, plan.content
        )
        return worker, inherited

    def line(self) -> bytes:
        """Return the configuration as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Parse the line of a configuration."""
        found = json.loads(line)
        endpoints = tuple((name, endpoint) for name, endpoint in found.pop("endpoints"))
        return cls(endpoints=endpoints, wakes=tuple(found.pop("wakes")), **found)

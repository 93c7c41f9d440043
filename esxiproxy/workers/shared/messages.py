"""The messages between the master and a worker, and the descriptors of their pipes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from itertools import count
from typing import Any, Self

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.workers.plan import Plan

COMMANDS_FD = 3
"""The descriptor on which the child reads its configuration and then commands, until the master exits."""
REPORTS_FD = 4
"""The descriptor on which the child writes reports and log lines."""
FIRST_INHERITED_FD = 5
"""The first of the descriptors that the child inherits."""
_IDENTITY = ("machine", "run", "generation", "shells", "sockets")
"""Fields that a worker of an older version refuses."""


def json_line(content: Any) -> bytes:
    """Return content as one line of JSON."""
    return json.dumps(content).encode() + b"\n"


def known_fields(kind: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a dataclass has, without those that only a later version has."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


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
class Launch:
    """The values that all children of one generation are started with.

    ``config`` is the path of the configuration file and ``state`` that of the database.  ``run`` is the ID of
    this run of the master, and ``started`` the time of day at which it began.  ``generation`` counts its
    reloads.  ``environment`` has additional environment variables.  ``shells`` is the folder of the private
    sockets of the manhole, empty when the admin process serves no manhole.  ``sockets`` is the folder of the
    sockets that the admin process has for the workers, empty when it has none.
    """

    config: str
    state: str
    run: str
    started: float
    generation: int
    environment: Mapping[str, str]
    shells: str = ""
    sockets: str = ""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of one worker: its number, the path of the file, and inherited descriptors.

    ``listeners`` has the descriptor of each listening socket by the listener's name, ``board`` is that of
    the scoreboard, and ``wakes`` has an eventfd for each worker.  ``endpoints`` are the names and the
    Twisted endpoint descriptions of the bound sockets.  ``state`` is the path of the database.  ``content``
    is the text of the configuration file that is in force; when it is empty, the worker reads the file.
    ``machine``, ``run`` and ``generation`` are those of the worker's identity, and ``shells`` is the folder
    of the private sockets of the manhole.  ``sockets`` is that of the sockets of the admin process.  A master
    of an older version sends none of them, and has no admin process.
    """

    number: int
    config: str
    endpoints: tuple[tuple[str, str], ...]
    listeners: Mapping[str, int]
    state: str
    board: int
    wakes: tuple[int, ...]
    content: str = ""
    machine: str = ""
    run: str = ""
    generation: int = 0
    shells: str = ""
    sockets: str = ""

    @classmethod
    def for_worker(
        cls,
        number: int,
        plan: Plan,
        launch: Launch,
        sockets: Mapping[str, int],
        board: int,
        wakes: Sequence[int],
    ) -> tuple[Self, dict[int, int]]:
        """Return the configuration of a worker, and a map of its descriptors to those of this process."""
        child_fds = count(FIRST_INHERITED_FD)
        child_listeners = {name: next(child_fds) for name in sockets}
        inherited = {child_listeners[name]: descriptor for name, descriptor in sockets.items()}
        child_board, child_wakes = next(child_fds), tuple(next(child_fds) for _ in wakes)
        inherited |= {child_board: board, **dict(zip(child_wakes, wakes, strict=True))}
        # A worker of an older version, whose plan has no machine, does not know the last five fields.
        identity = (plan.machine, launch.run, launch.generation, launch.shells, launch.sockets)
        worker = cls(
            number,
            launch.config,
            plan.endpoints,
            child_listeners,
            launch.state,
            child_board,
            child_wakes,
            plan.content,
            *(identity if plan.machine else ()),
        )
        return worker, inherited

    @property
    def identity(self) -> ProcessIdentity:
        """The identity of the worker; its machine and its run are its own under an older master."""
        worker = str(self.number)
        if not self.run:
            return ProcessIdentity(worker=worker)
        return ProcessIdentity(self.machine, self.run, worker, self.generation)

    @property
    def master_has_admin(self) -> bool:
        """Whether the master starts an admin process, which a master of an older version does not."""
        return bool(self.run)

    def line(self) -> bytes:
        """Return the configuration as one line of JSON, without a missing identity."""
        return json_line(
            {name: value for name, value in asdict(self).items() if self.run or name not in _IDENTITY}
        )

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Parse the line of a configuration, and ignore unknown fields, which a later version may have."""
        found = known_fields(cls, json.loads(line))
        endpoints = tuple((name, endpoint) for name, endpoint in found.pop("endpoints"))
        return cls(endpoints=endpoints, wakes=tuple(found.pop("wakes")), **found)

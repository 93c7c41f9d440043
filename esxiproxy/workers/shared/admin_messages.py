"""The messages between the master and the admin process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import count
from typing import Any, Self

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.messages import FIRST_INHERITED_FD, Launch, json_line, known_fields

ADMIN = "admin"
"""The argument of the admin process, where a worker has its number, and its worker in the identity."""


class AdminCommand(Enum):
    """A command of the master to the admin process.  Its value is the text on the pipe."""

    OPEN = "open"
    """Start to serve the sockets of [admin]."""
    END = "end"
    """Finish the requests in progress, and exit."""
    NOW = "now"
    """Exit without waiting for requests."""
    FACTS = "facts"
    """Take the facts about the proxy, and report ``alive``."""
    RELOADED = "reloaded"
    """Take the outcome of the reload with this number."""
    STOP_SERVICES = "stop services"
    """Stop the plugins of ``services``, and report ``services stopped``."""
    START_SERVICES = "start services"
    """Start the stopped plugins of ``services`` again."""


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """The configuration of the admin process.

    The fields are those of ``WorkerConfig`` of the same name.  ``sockets`` has the descriptor of each socket
    of [admin] and of the manhole by its name.  ``started`` is the time of day of the master's start.
    ``private_sockets`` is the folder of the sockets that this process binds for the workers.
    """

    config: str
    endpoints: tuple[tuple[str, str], ...]
    sockets: Mapping[str, int]
    state: str
    content: str
    machine: str
    run: str
    generation: int
    started: float
    shells: str = ""
    private_sockets: str = ""

    @classmethod
    def of(cls, plan: Plan, launch: Launch, sockets: Mapping[str, int]) -> tuple[Self, dict[int, int]]:
        """Return the configuration, and a map of the child's descriptors to those of this process."""
        child_fds = count(FIRST_INHERITED_FD)
        child_sockets = {name: next(child_fds) for name in sockets}
        inherited = {child_sockets[name]: descriptor for name, descriptor in sockets.items()}
        config = cls(
            launch.config,
            plan.admin_endpoints,
            child_sockets,
            launch.state,
            plan.content,
            plan.machine,
            launch.run,
            launch.generation,
            launch.started,
            launch.shells,
            launch.sockets,
        )
        return config, inherited

    @property
    def identity(self) -> ProcessIdentity:
        """The identity of the admin process."""
        return ProcessIdentity(self.machine, self.run, ADMIN, self.generation)

    def line(self) -> bytes:
        """Return the configuration as one line of JSON."""
        return json_line(asdict(self))

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Parse the line of a configuration, and ignore unknown fields, which a later version may have."""
        found = known_fields(cls, json.loads(line))
        endpoints = tuple((name, endpoint) for name, endpoint in found.pop("endpoints"))
        return cls(endpoints=endpoints, **found)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """The signs of life of one worker.

    ``instance_id`` is empty until the worker is ready.  ``heartbeat_age`` is in seconds, None before the
    first heartbeat.  ``connections`` are those of clients, and ``accepting`` is whether it accepts more.
    """

    generation: int
    number: int
    pid: int
    instance_id: str
    heartbeat_age: float | None
    connections: int
    accepting: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about the proxy that the master sends to the admin process each second.

    ``ending`` is whether the proxy is shutting down.
    """

    workers: tuple[WorkerFacts, ...] = ()
    ending: bool = False

    def content(self) -> dict[str, Any]:
        """Return the facts as the argument of ``AdminCommand.FACTS``."""
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return the facts of an argument, and ignore unknown fields, which a later version may have."""
        workers = tuple(WorkerFacts(**known_fields(WorkerFacts, each)) for each in found["workers"])
        return cls(workers, bool(found["ending"]))

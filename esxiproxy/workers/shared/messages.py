"""What a worker is told when it starts, and on which descriptors it talks with the master."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import count
from typing import Self

from esxiproxy.workers.plan import Plan

COMMANDS_FD = 3
"""The worker reads here; at its end the master is gone."""
REPORTS_FD = 4
"""The worker writes here."""
FIRST = 5
"""The first of the descriptors that are handed down."""


class WorkerCommand(Enum):
    """What the master says after the order."""

    OPEN = "open"
    """Accept connections from now on."""
    RETIRE = "retire"
    """Accept no more, and end with the last console."""
    DRAIN = "drain"
    """Accept no more, and end within the time of the drain."""
    NOW = "now"
    """End at once."""
    RECORD_LOST = "bury"
    """Record what the holder of this name had: it is dead."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker's part: the configuration's path, and the descriptors of what it shares.

    ``listeners`` has the listening sockets by name and ``wakes`` an eventfd for each worker.  ``endpoints``
    are what the sockets were made for.  ``content`` is the file as it is in force, which may have changed
    since; when it is empty the file is read.
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
    def handing_down(
        cls,
        number: int,
        plan: Plan,
        config: str,
        sockets: Mapping[str, int],
        state: str,
        board: int,
        wakes: Sequence[int],
    ) -> tuple[Self, dict[int, int]]:
        """The order of a worker, and which of our descriptors it gets under which number of its own."""
        own = count(FIRST)
        listeners = {name: next(own) for name in sockets}
        handed = {listeners[name]: descriptor for name, descriptor in sockets.items()}
        its_board, its_wakes = next(own), tuple(next(own) for _ in wakes)
        handed |= {its_board: board, **dict(zip(its_wakes, wakes, strict=True))}
        order = cls(number, config, plan.endpoints, listeners, state, its_board, its_wakes, plan.content)
        return order, handed

    def line(self) -> bytes:
        """The order as it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """The order in a line."""
        found = json.loads(line)
        endpoints = tuple((name, endpoint) for name, endpoint in found.pop("endpoints"))
        return cls(endpoints=endpoints, wakes=tuple(found.pop("wakes")), **found)

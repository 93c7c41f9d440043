"""The faults on demand of a simulated vCenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from esxiproxy.sim.vcenter.soap_faults import NAMED

ANY: Final = "*"
HANG, DROP, GARBAGE, UNAVAILABLE = "hang", "drop", "garbage", "unavailable"
TRANSPORT: Final = (HANG, DROP, GARBAGE, UNAVAILABLE)
"""No answer, a connection that is dropped, an answer that is no SOAP, and HTTP status 503."""


@dataclass(slots=True)
class Demand:
    """A misbehaviour of the next calls of one method.

    `method` may be ``*`` for all. `machine` is a moid; None means all objects. `fault` is the name of a SOAP
    fault or one of TRANSPORT; None means a call that only takes `seconds`. `times` counts the calls that are
    left; None means all.
    """

    method: str
    fault: str | None = None
    machine: str | None = None
    times: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.fault is not None and self.fault not in NAMED and self.fault not in TRANSPORT:
            raise ValueError(f"{self.fault} is no fault; they are {', '.join((*NAMED, *TRANSPORT))}")
        if not 0 <= self.seconds <= 3600:
            raise ValueError("seconds must be between 0 and 3600")
        if self.times is not None and self.times < 1:
            raise ValueError("times must be above 0")


class Demands:
    """The misbehaviours that were asked for, the oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Demand] = []

    def add(self, demand: Demand) -> None:
        """Add a misbehaviour after those that are there."""
        self.waiting.append(demand)

    def clear(self) -> None:
        """Remove all of them."""
        self.waiting.clear()

    def take(self, method: str, moid: str) -> Demand | None:
        """Return the first one that fits a call, and count it."""
        for demand in self.waiting:
            if demand.method in (ANY, method) and demand.machine in (None, moid):
                if demand.times is not None:
                    demand.times -= 1
                    if demand.times == 0:
                        self.waiting.remove(demand)
                return demand
        return None

"""The results of a load: numbers and durations of successes, and each failure."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


class Fault(enum.Enum):
    """The kinds of failures."""

    REFUSED = "refused"
    """A connection, or its opening handshake, failed or was late."""
    LOST = "lost"
    """A console ended or became silent without an order."""
    WRONG = "wrong"
    """A byte was lost, repeated or changed, or a frame broke a rule."""
    LINGERS = "lingers"
    """One side of a session was still there long after the other had ended."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure."""

    fault: Fault
    console: int
    begun: float
    """When its client began to connect, as everything here on the monotonic clock."""
    at: float
    text: str

    def __str__(self) -> str:
        return f"{self.fault.value}: console {self.console}, {self.at - self.begun:.3f} s old: {self.text}"


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of durations in seconds: count, median, 99th percentile, maximum."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, durations: Sequence[float]) -> Spread:
        """Return the distribution of these durations."""
        if not durations:
            return cls()
        ranked = sorted(durations)
        last = len(ranked) - 1
        return cls(len(ranked), ranked[last // 2], ranked[last * 99 // 100], ranked[-1])

    def __str__(self) -> str:
        return f"{self.p50 * 1e3:.1f} / {self.p99 * 1e3:.1f} / {self.longest * 1e3:.1f} ms"


@dataclass
class Tally:
    """Counts since the beginning, and durations since they were last taken."""

    failures: list[Failure] = field(default_factory=list)
    begun: int = 0
    """Connections, good or bad."""
    opened: int = 0
    """Sessions that have stood."""
    messages: int = 0
    """Those that came to the end that they were for, whole, from both sides."""
    octets: int = 0
    """Their payloads together."""
    pings: int = 0
    """Of the proxy's, answered."""
    trips: list[float] = field(default_factory=list)
    """From the last byte of a client's message to the last byte of its answer."""
    openings: list[float] = field(default_factory=list)
    """From the connection's first packet to the 101."""

    def fail(self, fault: Fault, console: int, begun: float, text: str) -> None:
        """Record a failure."""
        self.failures.append(Failure(fault, console, begun, time.monotonic(), text))

    def take(self) -> tuple[Spread, Spread]:
        """Return the round trips and the openings since the last call."""
        trips, self.trips = self.trips, []
        openings, self.openings = self.openings, []
        return Spread.of(trips), Spread.of(openings)

    def of(self, fault: Fault) -> list[Failure]:
        """Return the failures of this kind."""
        return [failure for failure in self.failures if failure.fault is fault]

    def report(self, most: int = 5) -> str:
        """Return the failures in words, the first ones of each kind in full."""
        kinds = [self.of(fault) for fault in Fault]
        counts = ", ".join(f"{len(kind)} {fault.value}" for fault, kind in zip(Fault, kinds, strict=True))
        return "\n".join([f"{counts} of {self.begun}", *(str(one) for kind in kinds for one in kind[:most])])

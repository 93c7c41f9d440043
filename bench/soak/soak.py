"""A soak: a load for a long time, and repeated measurements of the proxy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.soak.proxied import Stage
from bench.soak.tally import Spread
from bench.usage import times


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a soak; times in seconds, rates a second."""

    seconds: float
    consoles: int
    visits: float
    """New short sessions, beside the consoles that take an ended one's place."""
    lifetime: float
    """Of a console, in the mean."""
    rate: float = 50.0
    """At most so many new consoles."""

    @property
    def every(self) -> float:
        """Between two samples: some 240 of them, and none in less than a second."""
        return max(1.0, self.seconds / 240)


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one interval and at its end."""

    at: float
    """Seconds since all consoles were open."""
    consoles: int
    resident: int
    memory: int
    descriptors: int
    cpu: float
    """Of one core."""
    trips: Spread
    openings: Spread
    begun: int
    """Sessions up to now, as with the next ones."""
    messages: int
    failures: int

    def __str__(self) -> str:
        return (
            f"{self.at:7.0f} s  {self.consoles} consoles  {self.memory / 2**20:.1f} MiB  "
            f"{self.descriptors} descriptors  {self.cpu:.0%} of a core  answer {self.trips}  "
            f"opening {self.openings}  {self.begun} sessions  {self.failures} failed"
        )


def fill(stage: Stage, plan: Plan) -> bool:
    """Begin the load, and return whether all consoles opened."""
    stage.load.go(plan.consoles, plan.rate, plan.visits, plan.lifetime)
    full = stage.load.loop.run(30 + 2 * plan.consoles / plan.rate, stage.load.is_full)
    stage.load.tally.take()
    return full


def samples(stage: Stage, plan: Plan) -> Iterator[Sample]:
    """Let it run for so long, with a sample an interval."""
    load, pid = stage.load, stage.proxy.pid
    begun, before = time.monotonic(), times([pid])
    while (now := time.monotonic() - begun) < plan.seconds:
        load.loop.run(min(plan.every, plan.seconds - now))
        usage, after, (trips, openings) = stage.usage(), times([pid]), load.tally.take()
        yield Sample(
            at=time.monotonic() - begun,
            consoles=sum(console.is_open for console in load.consoles.values()),
            resident=usage.resident,
            memory=usage.memory,
            descriptors=usage.descriptors,
            cpu=after.share_since(before)[0],
            trips=trips,
            openings=openings,
            begun=load.tally.begun,
            messages=load.tally.messages,
            failures=len(load.tally.failures),
        )
        before = after


def growth(taken: Sequence[Sample]) -> int:
    """Bytes by which the memory has grown, from the median of the second fifth to that of the last one.

    In the first fifth a process still finds its size: what has ended waits for the collector of cycles.
    """
    size = max(1, len(taken) // 5)
    before = [sample.memory for sample in taken[size : 2 * size] or taken]
    after = [sample.memory for sample in taken[-size:]]
    return int(statistics.median(after) - statistics.median(before))

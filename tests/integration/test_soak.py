"""The soak in its short form: 200 consoles that come and go; `make soak` has 1,000 for an hour."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.soak.proxied import staged
from bench.soak.soak import Plan, fill, growth, samples

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
PLAN = Plan(seconds=600.0 if LONG else 60.0, consoles=1000 if LONG else 200, visits=20.0, lifetime=30.0)
WARM = 1500
"""Sessions before anything is compared: by then Python's collector of cycles has had its first full turn.

What has ended waits for that turn, and the memory that it took is reused and not given back.
"""
pytestmark = pytest.mark.timeout(7200 if LONG else 900)
MARGIN = 0.05
"""Of the memory after the warm-up: 3 MiB.  If what ended stayed, the short form would grow by 30 MiB."""
PINGS = "ping_interval = 5s"
"""Many pings, since a minute is short."""


def test_memory_and_descriptors_stay_while_consoles_come_and_go(tmp_path: Path) -> None:
    """No console is lost and no byte is wrong. Memory and descriptors stay the same after the warm-up."""
    with staged(tmp_path, pace=4.0, lines=PINGS) as stage:
        load, tally = stage.load, stage.load.tally
        assert fill(stage, PLAN), tally.report()
        load.go(PLAN.consoles, PLAN.rate, visits=60.0, lifetime=PLAN.lifetime)
        assert load.loop.run(120, lambda: tally.begun > WARM or tally.failures), tally.report()
        load.go(PLAN.consoles, PLAN.rate, PLAN.visits, PLAN.lifetime)
        load.loop.run(2)
        tally.take()
        taken = list(samples(stage, PLAN))
        assert load.finish(), tally.report()
        assert not tally.failures, tally.report()
        assert load.loop.run(10, stage.is_idle), f"{stage.usage()}, and before all {stage.idle}"

        shown = "\n".join(map(str, taken))
        print(shown)
        assert growth(taken) < MARGIN * taken[0].memory, shown
        assert max(sample.descriptors for sample in taken) < stage.idle.descriptors + 3 * PLAN.consoles, shown
        middle = sorted(sample.trips.p50 for sample in taken)[len(taken) // 2]
        assert middle < 0.1, shown
        assert max(sample.trips.longest for sample in taken) < 5.0, shown
        assert tally.pings > PLAN.consoles and min(load.ended.values()) > PLAN.seconds

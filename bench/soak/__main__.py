"""`make soak`: the long form, and its picture and figures in docs/."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import machine
from bench.soak.chart import picture
from bench.soak.proxied import Stage, staged
from bench.soak.soak import Plan, Sample, fill, growth, samples
from tests.support.programs import ROOT

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FIGURES = 12
"""Rows of the table; the picture has all samples."""
FLAT = 0.05
"""Of the memory: what it may grow by."""
KNOWN = ("cpu", "cores", "kernel", "python", "commit", "twisted", "autobahn", "pyopenssl")
PAGE = "test-results.md"
HEADING = "## Soak"


def seconds(text: str) -> float:
    """Parse a duration as in the configuration."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: 90s, 10m, 1h")
    return float(int(match[1]) * UNITS[match[2]])


def replace_soak(page: Path, section: str) -> None:
    """Write the section about the soak into the page, from its heading to the end."""
    before = page.read_text().partition(HEADING)[0] if page.exists() else ""
    page.write_text(before + section)


def report(plan: Plan, workers: int, taken: Sequence[Sample], stage: Stage, found: Sequence[str]) -> str:
    """Return the figures as Markdown."""
    about = machine()
    rows = [taken[round(step * (len(taken) - 1) / (FIGURES - 1))] for step in range(FIGURES)]
    tally, ended = stage.load.tally, stage.load.ended
    lines = [
        HEADING,
        "",
        f"{plan.consoles} consoles through ws → ws, ws → wss and wss → wss for {taken[-1].at / 60:.0f} "
        f"minutes on {datetime.now(UTC):%-d %B %Y}, `workers = {workers}`. A console lives for "
        f"{plan.lifetime / 60:g} minutes on average. Then its client or the upstream ends it, cleanly or "
        f"abruptly, and a new console is opened. {plan.visits:g} short sessions a second are added. "
        "Every byte is checked at both ends. `make soak` writes this section and its picture, "
        "`SOAK=10m make soak` those of a shorter run.",
        "",
        "![memory, descriptors and latencies over time](soak.svg)",
        "",
        *(f"- {line}" for line in found),
        f"- {tally.begun} connects, {tally.opened} sessions, {tally.messages} messages "
        f"({tally.octets / 2**30:.1f} GiB), {tally.pings} pings answered. Of the consoles {ended['client']} "
        f"were ended by their client and {ended['upstream']} by the upstream.",
        "",
        "`answer` is the time from the last byte of a client's message to the last byte of the answer. "
        "`opening` is the time from the connect to the 101, TLS included. Both are p50 / p99 / maximum of "
        "the interval. `memory` is allocated memory, without programs and libraries. Load, upstream and "
        "proxy share the machine.",
        "",
        "| minute | consoles | memory, MiB | descriptors | CPU | answer | opening | failed |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.at / 60:.1f} | {row.consoles} | {row.memory / 2**20:.1f} | {row.descriptors} "
            f"| {row.cpu:.0%} | {row.trips} | {row.openings} | {row.failures} |"
            for row in rows
        ),
        "",
        "| machine | |",
        "|---|---|",
        *(f"| {name} | {about[name].partition(';')[0]} |" for name in KNOWN if name in about),
        "",
    ]
    return "\n".join(lines)


def verdict(stage: Stage, taken: Sequence[Sample], idle: bool) -> tuple[bool, list[str]]:
    """Return whether the soak was good, and why."""
    tally, grown, before, now = stage.load.tally, growth(taken), stage.idle, stage.usage()
    share = grown / taken[0].memory
    lines = [
        f"Failures: {tally.report(most=0).splitlines()[0]}.",
        f"Memory: {grown / 2**20:+.1f} MiB ({share:+.1%}) from the second fifth to the last; "
        f"{before.memory / 2**20:.1f} MiB before the first connection, {now.memory / 2**20:.1f} MiB after "
        "the last.",
        f"Descriptors: {before.descriptors} before the first connection, {now.descriptors} after the last.",
    ]
    return share <= FLAT and idle and not tally.failures, lines


def main() -> int:
    """Run it; 0 when nothing failed, memory is flat and the descriptors are back."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=", description=__doc__)
    add = parser.add_argument
    add("--time", type=seconds, default=3600.0, metavar="1h", help="after all consoles are open (default 1h)")
    add("--consoles", type=int, default=1000)
    add("--visits", type=float, default=5.0, help="new short sessions a second (default 5)")
    add(
        "--lifetime", type=seconds, default=300.0, metavar="5m", help="of a console, in the mean (default 5m)"
    )
    add("--pace", type=float, default=5.0, help="seconds between two messages of a console (default 5)")
    add("--workers", type=int, default=1, help="as in the configuration (default 1)")
    add(
        "--out",
        type=Path,
        default=ROOT / "docs",
        help="where soak.svg and test-results.md go (default docs/)",
    )
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # the proxy is ended, and what was seen is kept
        signal.signal(number, signal.default_int_handler)
    plan = Plan(given.time, given.consoles, given.visits, given.lifetime)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        staged(Path(folder), given.pace, workers=given.workers) as stage,
    ):
        taken: list[Sample] = []
        if not fill(stage, plan):
            print(stage.load.tally.report(), file=sys.stderr)
            return 1
        try:
            for sample in samples(stage, plan):
                taken.append(sample)
                print(sample, flush=True)
        except KeyboardInterrupt:
            print("stopped early", file=sys.stderr)
        if not taken:
            return 1
        gone = stage.load.finish() and stage.load.loop.run(10, stage.is_idle)
        good, found = verdict(stage, taken, gone)
        title = f"{plan.consoles} consoles for {taken[-1].at / 60:.0f} minutes"
        below = f"{stage.load.tally.opened} sessions. {found[0]} {found[1]}"
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "soak.svg").write_text(picture(taken, title, below))
        replace_soak(given.out / PAGE, report(plan, given.workers, taken, stage, found))
        print("\n".join(found))
        if not good:
            print(stage.load.tally.report(), file=sys.stderr)
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""A soak as a picture: SVG, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from bench import svg
from bench.soak.soak import Sample

WIDTH, LEFT, RIGHT, HEIGHT, GAP, TOP = 960, 60, 30, 120, 48, 56
BLUE, GREEN, ORANGE, RED = "#2563eb", "#16a34a", "#c2410c", "#dc2626"


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    name: str
    colour: str
    value: Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over one axis, from zero or, if it is `steep`, by powers of ten."""

    title: str
    lines: tuple[Line, ...]
    steep: bool = False


PANELS = (
    Panel("consoles open", (Line("", BLUE, lambda sample: sample.consoles),)),
    Panel(
        "memory of the proxy, MiB",
        (
            Line("resident", BLUE, lambda sample: sample.resident / 2**20),
            Line("its own", ORANGE, lambda sample: sample.memory / 2**20),
        ),
    ),
    Panel("descriptors of the proxy", (Line("", GREEN, lambda sample: sample.descriptors),)),
    Panel("CPU of the proxy, % of one core", (Line("", BLUE, lambda sample: sample.cpu * 100),)),
    Panel(
        "from a message to its answer, ms",
        (
            Line("longest", RED, lambda sample: sample.trips.longest * 1e3),
            Line("p99", ORANGE, lambda sample: sample.trips.p99 * 1e3),
            Line("p50", BLUE, lambda sample: sample.trips.p50 * 1e3),
        ),
        steep=True,
    ),
    Panel(
        "from a connect to its 101, ms",
        (
            Line("longest", RED, lambda sample: sample.openings.longest * 1e3),
            Line("p99", ORANGE, lambda sample: sample.openings.p99 * 1e3),
            Line("p50", BLUE, lambda sample: sample.openings.p50 * 1e3),
        ),
        steep=True,
    ),
)


def picture(taken: Sequence[Sample], title: str, below: str) -> str:
    """Return an SVG with a panel for each measured figure."""
    height = TOP + len(PANELS) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        svg.text(10, 20, title, "font-size:16px"),
        svg.text(10, 36, below),
    ]
    top = TOP + 14
    for panel in PANELS:
        parts += _panel(panel, taken, top)
        top += HEIGHT + GAP
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, taken: Sequence[Sample], top: float) -> Iterator[str]:
    curves = [[line.value(sample) for sample in taken] for line in panel.lines]
    most = max((max(curve) for curve in curves), default=1.0) or 1.0
    least = min((value for curve in curves for value in curve if value > 0), default=most / 10)
    if panel.steep:
        low, high = floor(log10(least)), max(ceil(log10(most)), floor(log10(least)) + 1)
        marks = [10.0**power for power in range(low, high + 1)]
    else:
        low, high = 0, most * 1.1
        step = _step(high)
        marks = [step * number for number in range(int(high / step) + 1)]

    def across(at: float) -> float:
        return LEFT + at / taken[-1].at * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        place = log10(max(value, 10.0**low)) if panel.steep else value
        return top + HEIGHT - (place - low) / (high - low) * HEIGHT

    yield svg.text(LEFT, top - 6, panel.title, "font-weight:bold")
    for mark in marks:
        yield _rule(LEFT, up(mark), WIDTH - RIGHT, up(mark))
        yield svg.text(LEFT - 6, up(mark) + 4, f"{mark:g}", "text-anchor:end")
    for mark in _times(taken[-1].at):
        yield _rule(across(mark), top, across(mark), top + HEIGHT)
        text = f"{mark / 60:g} min" if taken[-1].at >= 300 else f"{mark:g} s"
        yield svg.text(across(mark), top + HEIGHT + 16, text, "text-anchor:middle")
    for number, (line, curve) in enumerate(zip(panel.lines, curves, strict=True)):
        points = " ".join(
            f"{across(sample.at):.1f},{up(value):.1f}" for sample, value in zip(taken, curve, strict=True)
        )
        yield f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="1.3"/>'
        if line.name:
            yield svg.text(WIDTH - RIGHT - 170 + 60 * number, top - 6, line.name, f"fill:{line.colour}")


def _step(most: float) -> float:
    """Return a round number that is a third to a seventh of this one."""
    power = 10.0 ** floor(log10(most))
    return next(power * part for part in (2, 1, 0.5, 0.2, 0.1) if most / (power * part) >= 3)


def _times(seconds: float) -> list[float]:
    """Round ones, twelve at most beside the first."""
    steps = (5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
    step = next((step for step in steps if seconds / step <= 12), seconds)
    return [step * number for number in range(int(seconds / step) + 1)]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#e5e7eb"/>'

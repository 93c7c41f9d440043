"""The run of a benchmark: for each case several turns, in each of which every peer is measured."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.cases import Case, Row
from bench.modes import Mode
from bench.stage import LoadFailed, Stage


@dataclass(slots=True)
class Cell:
    """The results of one peer in one row and mode: a figure and the CPU use for each turn.

    ``cpu`` is the used share of a core, ``wanted`` the share with the time that the peer waited for the core.
    ``load`` is the share of their core that load and upstream used.
    """

    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    wanted: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def possible(self) -> float | None:
        """The figure at which load and upstream would use the whole of their core."""
        return self.median / max(statistics.median(self.load), 0.01) if self.load else None

    @property
    def per_cpu(self) -> float | None:
        """The median figure per second of the peer's CPU time."""
        pairs = [value / cpu for value, cpu in zip(self.values, self.cpu, strict=False) if cpu > 0.01]
        return statistics.median(pairs) if len(pairs) == len(self.values) and pairs else None


@dataclass(slots=True)
class Results:
    """The cells of a run by mode, row and peer; ``failures`` are messages about failed measurements."""

    modes: Sequence[Mode]
    rows: Sequence[Row]
    peers: Sequence[str]
    cells: dict[tuple[str, str, str], Cell] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def cell(self, mode: Mode, row: Row, peer: str) -> Cell | None:
        return self.cells.get((mode.name, row.name, peer))

    def reference(self, mode: Mode, row: Row, per_cpu: bool = False) -> float | None:
        """Return the figure of nginx's best setting."""
        found = [self.cell(mode, row, peer) for peer in self.peers if peer.startswith("nginx")]
        figures = [cell.per_cpu if per_cpu else cell.median for cell in found if cell is not None]
        known = [figure for figure in figures if figure is not None]
        return (max if row.more else min)(known) if known else None

    def ratio(self, mode: Mode, row: Row, peer: str, per_cpu: bool = False) -> float | None:
        """Return the ratio of a peer's figure to nginx's best."""
        cell, reference = self.cell(mode, row, peer), self.reference(mode, row, per_cpu)
        figure = (cell.per_cpu if per_cpu else cell.median) if cell is not None else None
        return figure / reference if figure is not None and reference else None

    def limit(self, mode: Mode, row: Row) -> float | None:
        """Return how many times better than nginx's best the load and the upstream can be.

        There are two lower bounds, and the greater one counts: what they reach without a proxy, and nginx's
        figure divided by the share of their core that they used for it.  Without a proxy the load has the TLS
        of the upstream, which a proxy's client may not have.
        """
        reference, ratio = self.reference(mode, row), self.ratio(mode, row, "direct")
        bounds = [ratio if row.more else 1 / ratio] if ratio else []
        if reference and row.capacity:
            cells = [self.cell(mode, row, peer) for peer in self.peers if peer.startswith("nginx")]
            bounds += [cell.possible / reference for cell in cells if cell is not None and cell.possible]
        return max(bounds, default=None)

    def plain(self) -> list[dict[str, Any]]:
        """Return the cells as JSON values."""
        units = {row.name: row for row in self.rows}
        modes = {mode.name: mode for mode in self.modes}
        return [
            {
                "mode": mode,
                "row": row,
                "peer": peer,
                "unit": units[row].unit,
                "median": cell.median / units[row].scale,
                "ratio": self.ratio(modes[mode], units[row], peer),
                "values": [value / units[row].scale for value in cell.values],
                "cpu": cell.cpu,
                "wanted": cell.wanted,
                "load": cell.load,
            }
            for (mode, row, peer), cell in self.cells.items()
        ]


def run(stage: Stage, modes: Sequence[Mode], cases: Sequence[Case], turns: int) -> Results:
    """Run all cases in all modes and return the results."""
    rows = [row for case in cases for row in case.rows]
    results = Results(modes, rows, [peer.name for peer in stage.peers])
    for mode in modes:
        for case in cases:
            print(f"{mode.title}: {case.name}", file=sys.stderr)
            for turn in range(1 if case.once else turns):
                _turn_of(results, stage, mode, case, turn)
    return results


def _turn_of(results: Results, stage: Stage, mode: Mode, case: Case, turn: int) -> None:
    """Run one turn of a case.  A failed measurement is omitted and added to the failures.

    Load and upstream without a proxy are measured in the first turn only.
    """
    rows = {row.name for row in case.rows}
    groups = [stage.peers] if case.once else [[one] for one in stage.peers if not turn or one.pids()]
    for peers in groups:
        try:
            for peer, figures in case.measure(stage, mode, peers):
                for name in rows & figures.keys():
                    cell = results.cells.setdefault((mode.name, name, peer.name), Cell())
                    cell.values.append(figures[name])
                    if "cpu" in figures:
                        cell.cpu.append(figures["cpu"])
                        cell.wanted.append(figures["wanted"])
                        cell.load.append(figures["load"])
        except LoadFailed as failure:
            results.failures.append(str(failure))
            print(f"failed: {failure}", file=sys.stderr)

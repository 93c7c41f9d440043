"""The results as text: a table for each mode with the ratios to nginx's best setting."""

from __future__ import annotations

from bench.cases import Row
from bench.modes import Mode
from bench.turns import Results

FREE = 0.9
"""Share of its core below which a proxy was waiting for the load, so that the ratio is not exact."""

LIMIT = 2.0
"""How many times better than nginx's best load and upstream must be so that they do not limit a row."""

LEGEND = f"""\
Ratios to nginx's best setting in the row, which stands in the second column; in rows marked < less is better.
`goal` is what esxiproxy must reach, ! marks where it does not.  ~ marks a proxy that waited for the load for
more than {1 - FREE:.0%} of the time; `per CPU` is esxiproxy's ratio by figures per second of CPU time.
`limit` is how many times better than nginx's best the load and the upstream can be, on the core that they
share: measured without a proxy, or by the share of the core that they used for nginx, if that says more.
* marks a row where it is less than {LIMIT:g}: they limit the row, and nginx may be faster than it looks."""


def table(results: Results) -> str:
    """Return all tables, with a legend."""
    parts = [_mode(results, mode) for mode in results.modes]
    parts.append(LEGEND)
    return "\n\n".join(parts)


def _mode(results: Results, mode: Mode) -> str:
    shown = [peer for peer in results.peers if peer != "direct" and not peer.startswith("esxiproxy")]
    ours = [peer for peer in results.peers if peer.startswith("esxiproxy")]
    lines = [[mode.title, "nginx's best", *map(_short, ours), "goal", "per CPU", "limit", *shown]]
    for row in results.rows:
        reference = results.reference(mode, row)
        cells = [results.cell(mode, row, peer) for peer in results.peers]
        if not any(cells):
            continue
        best = f"{figure(reference / row.scale)} {row.unit}" if reference is not None else "-"
        goal = row.goals.get(mode.name)
        lines.append(
            [row.title + ("" if row.more else " <"), best]
            + [_ratio(results, mode, row, peer) for peer in ours]
            + [f"{'≥' if row.more else '≤'} {goal:g}" if goal else ""]
            + [_per_cpu(results, mode, row, ours[0]) if ours else ""]
            + [_limit(results, mode, row)]
            + [_ratio(results, mode, row, peer) for peer in shown]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _short(name: str) -> str:
    """Return a peer's name without the folders of its path."""
    kind, _, path = name.partition("=")
    return f"{kind}={path.rstrip('/').rpartition('/')[2]}" if path else kind


def _line(cells: list[str], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def figure(value: float) -> str:
    """Return a figure as text, with three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(results: Results, mode: Mode, row: Row, peer: str) -> str:
    """Return the ratio as text, or the figure itself if nginx has none."""
    cell, ratio = results.cell(mode, row, peer), results.ratio(mode, row, peer)
    if cell is None:
        return "-"
    if ratio is None or ratio > 1000:
        return f"({figure(cell.median / row.scale)})"
    missed = peer.startswith("esxiproxy") and misses(row, mode, ratio)
    waiting = row.capacity and cell.wanted and max(cell.wanted) < FREE
    return f"{'!' if missed else ''}{'~' if waiting else ''}{ratio:.2f}"


def misses(row: Row, mode: Mode, ratio: float) -> bool:
    """Return whether a ratio of esxiproxy misses the goal of its row and mode."""
    goal = row.goals.get(mode.name)
    return goal is not None and (ratio < goal if row.more else ratio > goal)


def _per_cpu(results: Results, mode: Mode, row: Row, peer: str) -> str:
    ratio = results.ratio(mode, row, peer, per_cpu=True) if row.capacity else None
    return f"{ratio:.2f}" if ratio is not None else ""


def _limit(results: Results, mode: Mode, row: Row) -> str:
    limit = results.limit(mode, row)
    if limit is None:
        return ""
    return f"{'*' if limit < LIMIT else ''}{limit:.2f}"

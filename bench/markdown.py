"""The results as the table of the documentation: a column for each mode, a ratio for each proxy."""

from __future__ import annotations

from bench.cases import Row
from bench.modes import Mode
from bench.table import LIMIT, figure, misses
from bench.turns import Results

SHOWN = ("esxiproxy", "haproxy", "websockify")


def markdown(results: Results) -> str:
    """Return the table, with a `!` for a missed goal and a `*` for a row that load or upstream limit."""
    lines = ["| | " + " | ".join(mode.title for mode in results.modes) + " |"]
    lines.append("|---" * (len(results.modes) + 1) + "|")
    for row in results.rows:
        cells = [_cell(results, mode, row) for mode in results.modes]
        if any(cells):
            title = row.title + ("" if row.more else " `<`")
            lines.append(f"| {title} | " + " | ".join(cell or "–" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(results: Results, mode: Mode, row: Row) -> str:
    """Return the ratios of one row and mode, or an empty text without any."""
    shown = [peer for peer in SHOWN if peer in results.peers]
    texts = [_ratio(results, mode, row, peer) for peer in shown]
    if not any(texts):
        return ""
    limit = results.limit(mode, row)
    limited = r" \*" if limit is not None and limit < LIMIT else ""
    return " · ".join(text or "–" for text in texts) + limited


def _ratio(results: Results, mode: Mode, row: Row, peer: str) -> str:
    cell, ratio = results.cell(mode, row, peer), results.ratio(mode, row, peer)
    if cell is None:
        return ""
    if ratio is None or ratio > 1000:
        return f"({figure(cell.median / row.scale)} {row.unit})"
    if peer != "esxiproxy":
        return f"{ratio:.2f}"
    return f"{'!' if misses(row, mode, ratio) else ''}**{ratio:.2f}**"

"""The results as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import log2

from bench import svg
from bench.cases import Row
from bench.modes import Mode
from bench.turns import Results

COLOURS = {"esxiproxy": "#c2410c", "nginx": "#93c5fd", "nginx-64k": "#2563eb", "haproxy": "#16a34a"}
OTHER = "#9ca3af"
LEAST, MOST = 1 / 32, 4.0
WIDTH, LABEL, BAR, GAP = 900, 250, 9, 10


def picture(results: Results, machine: dict[str, str]) -> str:
    """Return an SVG with a bar for each peer and row.  Longer is better; the line at 1 is nginx's best."""
    body, top = [], 70
    for mode in results.modes:
        body.append(svg.text(10, top, mode.title, "font-weight:bold;font-size:15px"))
        top += 14
        for row in results.rows:
            if results.reference(mode, row):
                group, top = _row(results, mode, row, top)
                body += group
        top += 24
    peers = [peer for peer in results.peers if peer != "direct"]
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        svg.text(10, 20, "As good as nginx's best setting is 1; longer is better", "font-size:16px"),
        svg.text(10, 36, f"{machine.get('cpu', '')}, {machine.get('commit', '')}; each proxy on one core"),
        *_legend(peers),
        *_axis(top),
    ]
    return "\n".join([*head, *body, "</svg>\n"])


def _place(ratio: float) -> float:
    """Return the position of a ratio on the logarithmic axis."""
    share = log2(min(max(ratio, LEAST), MOST) / LEAST) / log2(MOST / LEAST)
    return LABEL + share * (WIDTH - LABEL - 60)


def _row(results: Results, mode: Mode, row: Row, top: int) -> tuple[list[str], int]:
    parts, start = [], top
    for peer in results.peers:
        ratio = results.ratio(mode, row, peer)
        if peer == "direct" or not ratio:
            continue
        better = ratio if row.more else 1 / ratio
        colour = COLOURS.get(peer.partition("=")[0], OTHER)
        end = _place(better)
        parts.append(
            f'<rect x="{LABEL}" y="{top}" width="{end - LABEL:.1f}" height="{BAR}" fill="{colour}"/>'
        )
        parts.append(svg.text(end + 3, top + BAR - 1, f"{better:.2f}", "font-size:9px"))
        top += BAR + 1
    title = escape(row.title)
    parts.append(f'<text x="{LABEL - 8}" y="{(start + top) / 2 + 4}" text-anchor="end">{title}</text>')
    return parts, top + GAP


def _axis(bottom: int) -> Iterator[str]:
    for mark in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2):
        x, colour = _place(mark), "#111827" if mark == 1 else "#e5e7eb"
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="62" y2="{bottom - 10}" stroke="{colour}"/>'
        yield svg.text(x - 8, 58, f"{mark:g}")


def _legend(peers: list[str]) -> Iterator[str]:
    x = 480.0
    for peer in peers:
        colour = COLOURS.get(peer.partition("=")[0], OTHER)
        yield f'<rect x="{x}" y="12" width="10" height="10" fill="{colour}"/>'
        yield svg.text(x + 14, 21, peer.partition("=")[0])
        x += 95

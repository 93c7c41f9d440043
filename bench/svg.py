"""Elements of SVG pictures."""

from __future__ import annotations

from html import escape


def text(x: float, y: float, content: str, style: str = "") -> str:
    """Return a text at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(content)}</text>'

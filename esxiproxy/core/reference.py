"""The reference of the configuration, as the README has it."""

from __future__ import annotations

from esxiproxy.core.keys import KEYS, Key


def reference() -> str:
    """A Markdown table of every key: section, type, default and meaning."""
    rows = [("key", "section", "type", "default", "meaning"), ("---",) * 5, *map(_row, KEYS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(key: Key) -> tuple[str, ...]:
    sections = ", ".join(f"`[{section.value}]`" for section in key.sections)
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    return f"`{key.name}`", sections, key.type.name, default, key.meaning

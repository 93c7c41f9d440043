"""The Markdown table of all configuration keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from esxiproxy.core.config.key import Key
from esxiproxy.core.config.schema import KEYS


def reference() -> str:
    """Return a Markdown table of every key: type, default, sections and meaning."""
    rows = [("key", "type", "default", "section", "meaning"), ("---",) * 5, *map(_row, KEYS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(key: Key) -> tuple[str, ...]:
    sections = ", ".join(f"`[{section.value}]`" for section in key.sections)
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    return f"`{key.name}`", key.type.name, default, sections, key.meaning


def inserted(text: str) -> str:
    """Return the text with the table between its markers.  Raise ValueError when a marker is missing."""
    before, begin, rest = text.partition("<!-- reference -->\n")
    _, end, after = rest.partition("<!-- /reference -->")
    if not end:
        raise ValueError("the markers <!-- reference --> and <!-- /reference --> are missing")
    return f"{before}{begin}{reference()}{end}{after}"


def _main(files: Sequence[str]) -> None:
    """Write the table into each file between its markers, or print it when no file is given."""
    for file in map(Path, files):
        file.write_text(inserted(file.read_text(encoding="utf-8")), encoding="utf-8")
    if not files:
        print(reference(), end="")


if __name__ == "__main__":
    _main(sys.argv[1:])

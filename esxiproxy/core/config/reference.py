"""The reference of the configuration: ``docs/configuration.md``, made of the table of keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from esxiproxy.core.config.key import Key, SectionKind
from esxiproxy.core.config.schema import KEYS

_HEADER = ("key", "type", "default", "section", "meaning")
_TIMEOUTS = ("response_timeout", "idle_timeout", "max_lifetime", "keepalive")
_TIMEOUT_ENDINGS = ("_timeout", "_interval", "_keepalive")
_LIMIT_BEGINNINGS = ("max_", "min_", "session_rate", "session_burst", "queue")


def topic_of(key: Key) -> str:
    """Return the heading under which a key stands."""
    if key.name in ("workers", "state", "worker_shutdown_timeout"):
        return "Multiple workers"
    if key.name.startswith(("access_log", "session_log")):
        return "Logging"
    if key.name.startswith(_LIMIT_BEGINNINGS) and key.name != "max_lifetime":
        return "Limits"
    if key.name in _TIMEOUTS or key.name.endswith(_TIMEOUT_ENDINGS):
        return "Timeouts and keepalive"
    if key.sections == (SectionKind.LISTENER,):
        return "Listeners"
    if key.sections == (SectionKind.UPSTREAM,):
        return "Upstreams"
    return "Plugins and operator shell"


TOPICS = (
    "Listeners",
    "Upstreams",
    "Timeouts and keepalive",
    "Limits",
    "Logging",
    "Multiple workers",
    "Plugins and operator shell",
)
"""The headings of the reference, in their order."""


def reference() -> str:
    """Return a Markdown table of the keys for each topic: type, default, section and meaning."""
    return "\n".join(_table(topic) for topic in TOPICS)


def _table(topic: str) -> str:
    keys = [key for key in KEYS if topic_of(key) == topic]
    rows = [_HEADER, ("---",) * len(_HEADER), *map(_row, keys)]
    return f"### {topic}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(key: Key) -> tuple[str, ...]:
    sections = ", ".join(f"`[{section.value}]`" for section in key.sections)
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    return f"`{key.name}`", key.type.name, default, sections, key.meaning


def inserted(text: str) -> str:
    """Return the text with the tables between its markers.  Raise ValueError without markers."""
    before, begin, rest = text.partition("<!-- reference -->\n")
    _, end, after = rest.partition("<!-- /reference -->")
    if not end:
        raise ValueError("the markers <!-- reference --> and <!-- /reference --> are missing")
    return f"{before}{begin}{reference()}{end}{after}"


def _main(files: Sequence[str]) -> None:
    """Write the tables into the files, or print them where no file is named.

    The usual command is ``python -m esxiproxy.core.config.reference docs/configuration.md``.
    """
    for file in map(Path, files):
        file.write_text(inserted(file.read_text(encoding="utf-8")), encoding="utf-8")
    if not files:
        print(reference(), end="")


if __name__ == "__main__":
    _main(sys.argv[1:])

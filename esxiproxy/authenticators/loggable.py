"""The form of a client's name in a log line."""

from __future__ import annotations

from esxiproxy.core.redaction import redact_text

_MOST = 64
"""Characters of a name that are shown."""


def loggable(name: str) -> str:
    """Return a name for a log line: cut, without secrets and with escapes."""
    cut = name[:_MOST].encode("utf-8", "replace").decode()
    return "".join(map(_escaped, redact_text(cut))) + ("..." if len(name) > _MOST else "")


def _escaped(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")

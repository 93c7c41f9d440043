"""The conversion of nginx's times and sizes."""

from __future__ import annotations

import re

_TIME = re.compile(r"([0-9]{1,12})(ms|[smhdwMy]?)\s*")
_MILLISECONDS = {
    "ms": 1,
    "": 1000,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
    "M": 30 * 86_400_000,
    "y": 365 * 86_400_000,
}
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
LONGEST = 365 * 86_400_000
"""The longest duration that a configuration accepts, in milliseconds."""
_SIZE = re.compile(r"([0-9]{1,15})([kKmMgG]?)")
_LETTERS = {"": "", "k": "KiB", "m": "MiB", "g": "GiB"}


def milliseconds(text: str) -> int | None:
    """Parse ``90``, ``90s``, ``1m30s`` or ``1m 30s`` to milliseconds; return None for an invalid time."""
    at, total = 0, 0
    while at < len(text) or not text:
        found = _TIME.match(text, at)
        if found is None:
            return None
        total += int(found[1]) * _MILLISECONDS[found[2]]
        at = found.end()
    return total


def duration(time: int) -> str:
    """Format milliseconds in the largest unit that gives a whole number, in seconds up to two minutes."""
    if time % 1000 == 0 and time <= 120_000:
        return f"{time // 1000}s"
    unit, size = next((unit, size) for unit, size in _UNITS if time % size == 0)
    return f"{time // size}{unit}"


def size(text: str) -> str | None:
    """Convert ``10m`` to ``10MiB`` and 0 to ``off``; return None for an invalid size."""
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    return f"{int(found[1])}{_LETTERS[found[2].lower()]}" if int(found[1]) else "off"

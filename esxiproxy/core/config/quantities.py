"""Parsers of durations, sizes and numbers.

Every function returns the value of a text, or raises BadValue with a text that says which values are valid.
"""

from __future__ import annotations

import re
from typing import Literal

from esxiproxy.core.config.cpus import usable_cpus
from esxiproxy.core.config.errors import BadValue, shown

_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 365 * 86400
_SIZE = re.compile(r"([0-9]{1,19})(KiB|MiB|GiB|)")
_BYTES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LARGEST = (1 << 63) - 1
"""The maximum size, since a payload length has 63 bits (RFC 6455 5.2)."""
_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MOST_WORKERS = 256


def duration(text: str) -> float:
    """Return the seconds in ``500ms``, ``30s``, ``10m``, ``1h`` or ``2d``."""
    if text == "off":
        raise BadValue("cannot be off")
    if not (found := _DURATION.fullmatch(text)):
        raise BadValue(f"{shown(text)} is no duration: write 500ms, 30s, 10m, 1h or 2d")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if not seconds:
        raise BadValue("must be more than 0")
    if seconds > _LONGEST:
        raise BadValue(f"{shown(text)} is too long: at most 365d")
    return float(seconds)


def duration_or_off(text: str) -> float | None:
    """Return the seconds in a duration, or None for ``off``."""
    if text.startswith("0") and (found := _DURATION.fullmatch(text)) and not int(found[1]):
        raise BadValue("must be more than 0, or off")
    return None if text == "off" else duration(text)


def size_or_off(text: str) -> int | None:
    """Return the bytes in ``64KiB``, ``1MiB``, ``2GiB`` or a number of bytes, or None for ``off``."""
    if text == "off":
        return None
    if not (found := _SIZE.fullmatch(text)):
        raise BadValue(f"{shown(text)} is no size: write 64KiB, 1MiB, a number of bytes, or off")
    size = int(found[1]) * _BYTES[found[2]]
    if not size:
        raise BadValue("must be more than 0, or off")
    if size > _LARGEST:
        raise BadValue(f"{shown(text)} is too large: at most {_LARGEST}")
    return size


def count(text: str) -> int:
    """Return a number of at least 1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
        raise BadValue(f"{shown(text)} is no number of at least 1")
    return int(text)


def count_or_off(text: str) -> int | None:
    """Return a number of at least 1, or None for ``off``."""
    return None if text == "off" else count(text)


def count_half_or_off(text: str) -> int | Literal["half"] | None:
    """Return a number of at least 1, ``half``, or None for ``off``."""
    return "half" if text == "half" else count_or_off(text)


def rate_or_off(text: str) -> float | None:
    """Return a number per second, which may have decimals, or None for ``off``."""
    if text == "off":
        return None
    if not _RATE.fullmatch(text) or not float(text):
        raise BadValue(f"{shown(text)} is no number a second: write 10, 0.5, or off")
    return float(text)


def workers(text: str) -> int:
    """Return the number of processes, which for ``auto`` is the number of usable CPUs."""
    if text == "auto":
        return min(usable_cpus(), _MOST_WORKERS)
    if (number := count(text)) > _MOST_WORKERS:
        raise BadValue(f"{number} workers are too many: at most {_MOST_WORKERS}")
    return number

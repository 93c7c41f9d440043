"""Reads values that other processes, of other versions too, have put into the shared state as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

_LARGEST = 2**63


def read_json(text: str) -> Any:
    """Return the value of a text, or None if it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_number(value: Any) -> bool:
    """Return whether this is a number of a report: it is not negative, and fits into 64 bits."""
    return type(value) in (int, float) and 0 <= value < _LARGEST


_FITS: Mapping[Any, Callable[[Any], bool]] = {
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    int: lambda value: type(value) is int and is_number(value),
    float: is_number,
    float | None: lambda value: value is None or is_number(value),
    int | None: lambda value: value is None or (type(value) is int and is_number(value)),
}


def typed_fields(cls: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a class that have values of their types."""
    return {name: found[name] for name, fits in _fields(cls) if name in found and fits(found[name])}


@cache
def _fields(cls: type) -> list[tuple[str, Callable[[Any], bool]]]:
    return [(name, _FITS[kind]) for name, kind in get_type_hints(cls).items()]

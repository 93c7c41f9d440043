"""A reader of JSON that accepts only texts that every reader understands in one way (RFC 8259)."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 64
"""Maximum depth of arrays and objects in each other."""


def strict_json(octets: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises ValueError, whose text has nothing of the content.  Refused are texts that readers understand in
    different ways: a member that an object has twice, NaN and Infinity, a number beyond the range of a float,
    half of a surrogate pair, and arrays or objects that are nested too deep.
    """
    try:
        text = octets.decode("utf-8")
        if _is_deep(text):  # interpreters have different limits
            raise _Ambiguous("it is nested too deep")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except _Ambiguous:
        raise
    except UnicodeError:
        raise ValueError("a text in it is no Unicode") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        raise ValueError("it is no JSON") from None
    return value


def _is_deep(text: str) -> bool:
    """Return whether arrays and objects are nested more than ``MAX_DEPTH`` deep."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    for part in unescaped.split('"')[::2]:  # outside of strings
        for character in part:
            if character in "[{":
                depth += 1
                if depth > MAX_DEPTH:
                    return True
            elif character in "]}":
                depth -= 1
    return False


class _Ambiguous(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Ambiguous("an object has a member twice")
    return members


def _constant(_text: str) -> Any:
    raise _Ambiguous("NaN and Infinity are no numbers of JSON")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _Ambiguous("a number is too large")
    return number


def _integer(text: str) -> int:
    if len(text) > 308:
        raise _Ambiguous("a number is too large")
    return int(text)

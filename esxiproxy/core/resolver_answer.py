"""The answer of a service that resolves tokens to hosts, in JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from esxiproxy.core.config import values
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.thumbprint import Pin

MAX_ANSWER = 64 * 1024
"""Maximum size of an answer in bytes."""
_MAX_PATH = 8 * 1024
_MAX_PINS = 16
_MAX_PRINCIPAL = 256
_REQUIRED = ("host", "port")
_NAMES = frozenset({*_REQUIRED, "path", "pins", "principal", "expires"})
_PATH = re.compile(r"/[!-~]*")


@dataclass(frozen=True, slots=True)
class ResolvedHost:
    """The host of a token.

    ``path`` is the request target, None for that of the client.  ``principal`` is the name of the client,
    None if the service does not know it.  ``expires`` is the time of day at which the answer ends, None if it
    holds for one request only.
    """

    host: str
    port: int
    path: bytes | None = field(default=None, repr=False)
    pins: tuple[Pin, ...] = ()
    principal: str | None = None
    expires: float | None = None


class _Object(dict[str, Any]):
    """An object of an answer, whose names are there once each."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if len(self) < len(pairs):
            raise ValueError("a name is there twice")


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("a number is not finite")


def parse_resolver_answer(body: bytes) -> ResolvedHost:
    """Return the host in an answer ``{host, port, path?, pins?, principal?, expires?}``.

    Raise ValueError, whose text does not repeat values of the answer.
    """
    if len(body) > MAX_ANSWER:
        raise ValueError(f"it has more than {MAX_ANSWER} bytes")
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_Object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON object, or has a name twice")
    if not isinstance(found, _Object):
        raise ValueError("it is no JSON object")
    if found.keys() - _NAMES:
        raise ValueError(f"it has a name besides {', '.join(sorted(_NAMES))}")
    for name in _REQUIRED:
        if name not in found:
            raise ValueError(f"it has no {name}")
    return ResolvedHost(**{name: _READ[name](value) for name, value in found.items()})


def _host(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("its host is no text")
    return plain_host(value)


def _port(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 65535:
        raise ValueError("its port is no number from 1 to 65535")
    return value


def _path(value: Any) -> bytes:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "#" in value or len(value) > _MAX_PATH:
        raise ValueError(
            "its path does not begin with a slash, or has a # or other characters than visible ASCII, or has "
            f"more than {_MAX_PATH} bytes"
        )
    return value.encode()


def _pins(value: Any) -> tuple[Pin, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_PINS:
        raise ValueError(f"its pins are no list of 1 to {_MAX_PINS} thumbprints")
    try:
        return tuple(pin for text in value for pin in values.pins(text))
    except (ValueError, AttributeError):
        raise ValueError("one of its pins is no sha256:HEX or sha1:HEX")


def _principal(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_PRINCIPAL or not value.isprintable():
        raise ValueError(f"its principal is no text of 1 to {_MAX_PRINCIPAL} printable characters")
    return value


def _expires(value: Any) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError("its expires is no time of day in seconds since 1970")


_READ: dict[str, Any] = {
    "host": _host,
    "port": _port,
    "path": _path,
    "pins": _pins,
    "principal": _principal,
    "expires": _expires,
}

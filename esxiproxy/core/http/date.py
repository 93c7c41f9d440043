"""The Date field of a response (RFC 9110 6.6.1)."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache

from esxiproxy.core.http.head import Fields


def date_field(fields: Fields = ()) -> list[tuple[bytes, bytes]]:
    """Return a Date field with the current time, or nothing if these fields have a Date."""
    if any(name.lower() == b"date" for name, _ in fields):
        return []
    return [(b"Date", _date(int(time.time())))]


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()

"""Lines out of a stream of bytes, as they come through a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LONGEST = 1 << 20
"""Bytes of a line; one that is longer is cut."""


class Lines:
    """Cuts what it is fed into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> list[bytes]:
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + octets).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def messages(self, octets: bytes) -> Iterator[list[Any]]:
        """The lines as JSON lists; whatever is something else was written by nobody of ours."""
        for line in self.feed(octets):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, list) and found:
                yield found

"""Splits the bytes from a pipe into lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_LINE = 1 << 20
"""Bytes of a line; a longer line is split."""


class LineSplitter:
    """A splitter of a stream of bytes into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> list[bytes]:
        """Add bytes, and return the lines that are complete now, without their line ends."""
        *lines, self._rest = (self._rest + octets).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def messages(self, octets: bytes) -> Iterator[list[Any]]:
        """Add bytes, and yield each complete line that is a JSON list; ignore all other lines."""
        for line in self.feed(octets):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, list) and found:
                yield found

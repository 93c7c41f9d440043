"""A file of values that is mapped into memory, whose blocks are reserved on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

_FIRST_SIZE = 1 << 16
"""Bytes of a new file."""
_ENTRY = 32
"""Bytes that a new value needs beside its key, at most."""


class ReservedFile(MmapedDict):
    """A file of values whose blocks are reserved before they are mapped.

    ``MmapedDict`` maps files with holes.  When the disk is full, writing into a hole ends the process with
    SIGBUS.  Here a new value raises OSError, and known values can always be changed.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            with Path(filename).open("ab") as file:
                if not file.tell():
                    os.posix_fallocate(file.fileno(), 0, _FIRST_SIZE)
        super().__init__(filename, read_mode)

    def _init_value(self, key: str) -> None:
        size = self._capacity
        while self._used + len(key.encode()) + _ENTRY > size:
            size *= 2
        if size > self._capacity:
            os.posix_fallocate(self._f.fileno(), self._capacity, size - self._capacity)
        super()._init_value(key)

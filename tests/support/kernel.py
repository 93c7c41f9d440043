"""What the kernel knows of a process."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

REST = 0.5
"""Seconds without a change that count as rest."""


class Seen:
    """A process, as it is seen from outside by its `pid`."""

    pid: int

    def descriptors(self) -> int:
        """How many are open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connections(self) -> int:
        """How many of them are TCP connections, in whatever state."""
        inodes = set()
        for entry in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(f"/proc/{self.pid}/fd/{entry}"))
        rows = self._read("net/tcp").splitlines()[1:]
        parts = (row.split() for row in rows)
        return sum(part[3] != "0A" and f"socket:[{part[9]}]" in inodes for part in parts)

    def steady(self) -> Callable[[], int | None]:
        """Answers the number of descriptors when it has not changed for a while."""
        last, since = -1, 0.0

        def ask() -> int | None:
            nonlocal last, since
            now = self.descriptors()
            if now != last:
                last, since = now, time.monotonic()
            return last if time.monotonic() - since > REST else None

        return ask

    def resident(self) -> int:
        """Bytes of memory that it has now."""
        return self._memory("VmRSS")

    def own(self) -> int:
        """Bytes of memory that are its own: no file's, and shared with nobody."""
        return self._memory("RssAnon")

    def peak(self) -> int:
        """The most that it ever had, since `forget_peak` at the earliest."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Where the kernel lets us; else the peak of the start counts as well, which asks for more."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def processor_time(self) -> float:
        """Seconds that it has computed so far."""
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self, key: str) -> int:
        found = re.search(rf"{key}:\s+(\d+) kB", self._read("status"))
        assert found
        return int(found[1]) * 1024

    def _read(self, file: str) -> str:
        return Path(f"/proc/{self.pid}/{file}").read_text()

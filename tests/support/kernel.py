"""The kernel's figures of a process."""

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
        """Return the number of open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connections(self) -> int:
        """Return the number of TCP connections in any state."""
        inodes = set()
        for entry in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(f"/proc/{self.pid}/fd/{entry}"))
        rows = self._read("net/tcp").splitlines()[1:]
        parts = (row.split() for row in rows)
        return sum(part[3] != "0A" and f"socket:[{part[9]}]" in inodes for part in parts)

    def steady(self) -> Callable[[], int | None]:
        """Return a function that returns the number of descriptors once it is stable."""
        last, since = -1, 0.0

        def ask() -> int | None:
            nonlocal last, since
            now = self.descriptors()
            if now != last:
                last, since = now, time.monotonic()
            return last if time.monotonic() - since > REST else None

        return ask

    def resident(self) -> int:
        """Return the bytes of resident memory."""
        return self._memory("VmRSS")

    def own(self) -> int:
        """Return the bytes of private memory, without files and shared memory."""
        return self._memory("RssAnon")

    def peak(self) -> int:
        """Return the largest resident memory since the start, or since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Reset the peak, where the kernel allows it; elsewhere the peak of the start counts as well."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def processor_time(self) -> float:
        """Return the seconds of processor time used so far."""
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self, key: str) -> int:
        found = re.search(rf"{key}:\s+(\d+) kB", self._read("status"))
        assert found
        return int(found[1]) * 1024

    def _read(self, file: str) -> str:
        return Path(f"/proc/{self.pid}/{file}").read_text()

"""Counts how many threads are in a part of the code at once."""

from __future__ import annotations

import threading


class AtOnce:
    """A context manager for threads.  ``most`` is the highest number of threads that were in it at once."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1

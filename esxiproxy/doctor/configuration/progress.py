"""A progress bar on a terminal.  A library would be a dependency for these lines."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 30
_EVERY = 0.1


class ProgressBar:
    """A line on a terminal that shows how many of ``total`` checks are done; nothing on other streams."""

    def __init__(self, stream: TextIO, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._total = total
        self._clock = clock
        self._is_shown = total > 0 and stream.isatty()
        self._next = 0.0

    def show(self, done: int) -> None:
        """Draw the bar, at most ten times a second."""
        now = self._clock()
        if not self._is_shown or (now < self._next and done < self._total):
            return
        self._next = now + _EVERY
        filled = _WIDTH * done // self._total
        text = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done} of {self._total} hosts"
        self._write(text[: shutil.get_terminal_size().columns - 1])

    def clear(self) -> None:
        """Remove the bar."""
        if self._is_shown:
            self._write("")

    def _write(self, text: str) -> None:
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

"""A progress bar on a terminal.  A library would be a dependency for these lines."""

from __future__ import annotations

import shutil
from typing import TextIO

_WIDTH = 30
_STEPS = 1000
"""Maximum number of times that the bar is drawn."""


class ProgressBar:
    """A line on a terminal that shows how many of ``total`` checks are done; nothing on other streams."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._is_shown = total > 0 and stream.isatty()
        self._step = -1

    def show(self, done: int) -> None:
        """Draw the bar, if it differs from the last one by more than a thousandth."""
        if not self._is_shown or (step := _STEPS * done // self._total) == self._step:
            return
        self._step = step
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

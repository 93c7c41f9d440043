"""A program on a pseudo-terminal: its input, the content of the screen, and the size of the window."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.programs import ROOT, environment, until

_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OnTerminal:
    """A program whose standard streams are a pseudo-terminal; it ends with the block.

    `text` is everything that it has written, without escape sequences, with `\\n` for each new line.
    """

    variables: Mapping[str, str] = {}
    """Further variables of the environment."""

    def __init__(
        self, command: Sequence[str | Path], rows: int = 24, columns: int = 80, uid: int | None = None
    ) -> None:
        self._command = [str(part) for part in command]
        self._size = (rows, columns)
        self._uid = uid
        self._octets = b""
        self._seen = 0

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        self._set_size(*self._size)
        self._before = termios.tcgetattr(slave)
        self._slave = slave
        self._process = subprocess.Popen(
            self._command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
            env=environment(PYTHONPATH=str(ROOT), **self.variables),
            user=self._uid,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        os.close(self._slave)
        os.close(self._master)
        if kind is not None:
            print(f"--- the terminal showed:\n{self.text}")

    @property
    def text(self) -> str:
        plain = _SEQUENCES.sub("", self._octets.decode("utf-8", "replace").replace("\x1bE", "\n"))
        return plain.replace("\r\n", "\n")

    @property
    def has_its_mode_back(self) -> bool:
        """Whether the terminal echoes and edits lines as before."""
        return termios.tcgetattr(self._slave) == self._before

    @property
    def octets(self) -> bytes:
        """Everything that the program has written."""
        return self._octets

    def output(self) -> str:
        """Return everything that the program has written so far, with its escape sequences."""
        while self._read(0.0):
            pass
        return self._octets.decode("utf-8", "replace")

    def writes(self, text: str, seconds: float = 30.0) -> None:
        """Wait until the output has this text."""
        until(lambda: text in self.output(), f"{text!r} is written", seconds)

    def type(self, text: str) -> None:
        """Type this."""
        os.write(self._master, text.encode())

    def shows(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait until the screen shows a pattern behind what was waited for before, and return the match."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.compile(pattern).search(self.text, self._seen)
            if found:
                self._seen = found.end()
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"not shown: {pattern}\nbut:\n{self.text[self._seen :]}")

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        self._set_size(rows, columns)

    def status(self, seconds: float = 30.0) -> int:
        """Wait for the end of the program, and return its exit status."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"has not ended:\n{self.text[self._seen :]}")
            self._read(0.05)
        self.output()
        return int(self._process.returncode)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        octets = os.read(self._master, 65536)
        self._octets += octets
        return bool(octets)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

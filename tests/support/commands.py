"""`esxiproxy` commands in processes of their own, also as another user and on a terminal."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import pytest

from esxiproxy.cli import import_nginx
from tests.support.programs import ROOT, environment, until

_MAIN = "from esxiproxy.cli.main import main, subcommand\nimport os, sys\n"
_END = "sys.exit(main())"
ESXIPROXY = [sys.executable, "-c", _MAIN + _END]
"""The command line before the arguments."""
NOBODY = 65534
"""The user id of `nobody`."""


def command(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `code` runs when everything is imported."""
    return subprocess.run(
        [sys.executable, "-c", _MAIN + code + _END, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(PYTHONPATH=str(ROOT)),
    )


def as_user(user: int, groups: Sequence[int], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a user with these groups.  It is loaded before, since the user may not read it."""
    drop = f"os.setgroups({list(groups)}); os.setresgid({user}, {user}, {user}); "
    done = command(*arguments, code=f"subcommand(sys.argv[1]); {drop}os.setresuid({user}, {user}, {user})\n")
    if "ModuleNotFoundError" in done.stderr or "ImportError" in done.stderr:
        pytest.skip("the user may not read this Python, which loads a module late")
    return done


class OnTerminal:
    """A command that runs on a terminal of this width and height, until the end of the block."""

    def __init__(self, *arguments: object, width: int = 80, height: int = 24) -> None:
        self._arguments = list(map(str, arguments))
        self._size = (width, height)
        self._output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def __enter__(self) -> Self:
        self._terminal, end = os.openpty()
        self._set_size(*self._size)
        self._process = subprocess.Popen(
            [*ESXIPROXY, *self._arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
            env={**environment(PYTHONPATH=str(ROOT), TERM="xterm"), "COLUMNS": "", "LINES": ""},
        )
        os.close(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        os.close(self._terminal)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the terminal, which the kernel reports to the command."""
        self._set_size(width, height)
        self._process.send_signal(signal.SIGWINCH)

    def interrupt(self) -> None:
        """Send the signal of Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def text(self) -> str:
        """Return everything that was written to the terminal so far."""
        while select.select([self._terminal], [], [], 0)[0]:
            with contextlib.suppress(OSError):  # the command has ended
                self._output += self._decoder.decode(os.read(self._terminal, 65536))
                continue
            break
        return self._output

    def shows(self, text: str) -> str:
        """Wait until a text is written, and return everything that was written so far."""
        until(lambda: text in self.text(), f"{text!r} is written", 30)
        return self.text()

    def ended(self) -> int:
        """Wait for the end of the command, and return its exit status."""
        until(lambda: (self.text(), self._process.poll() is not None)[1], "the command ends", 30)
        self.text()
        return self._process.wait()

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def import_nginx_command(*arguments: str) -> int:
    """Run `esxiproxy import-nginx` in this process, and return its exit status."""
    parser = argparse.ArgumentParser()
    import_nginx.add_arguments(parser)
    return import_nginx.run(parser.parse_args(arguments))

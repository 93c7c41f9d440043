"""Lines into a file, or to the standard output."""

from __future__ import annotations

import os
import select
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.python.logfile import LogFile

from esxiproxy.ops.logs.sink import Losses
from esxiproxy.ops.logs.threaded_sink import ThreadedSink

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_REOPEN_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MODE = 0o640


class FileSink(ThreadedSink):
    """Appends to a file, each line with one write: several processes may share it."""

    def __init__(self, path: Path, clock: Any) -> None:
        super().__init__(clock)
        self._path = path
        self._descriptor = -1

    def open(self) -> None:
        self._descriptor = os.open(self._path, _FLAGS, _MODE)

    def _reopen(self) -> None:
        """After somebody has renamed the file: write to a new one of its name."""
        old, self._descriptor = self._descriptor, os.open(self._path, _FLAGS, _MODE)
        os.close(old)
        if not self._write_in_progress:  # whatever was torn was torn there
            self._partial_line = False

    def may_hang(self) -> bool:
        return _is_on_disk(self._descriptor)

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, octets: bytes) -> int:
        return os.write(self._descriptor, octets)


class RotatedFile(LogFile):
    """A file of twistd's that says how much it has taken, which a full disk makes less than all."""

    def is_in_place(self) -> bool:
        """Whether its name still leads to it."""
        with suppress(FileNotFoundError):
            return not self._file.closed and os.path.samestat(
                os.stat(self.path), os.fstat(self._file.fileno())
            )
        return False

    @property
    def is_on_disk(self) -> bool:
        """Whether a write waits for a disk."""
        return not self._file.closed and _is_on_disk(self._file.fileno())

    def write(self, octets: bytes) -> int:
        if self._file.closed:  # it was rotated, and could not be opened anew
            self._openFile()
        if self.shouldRotate():
            self.rotate()
        taken = self._file.write(octets)
        self.size += taken
        return taken


class RotatedFileSink(ThreadedSink):
    """Appends to a file that twistd rotates: at a size, and when it is asked to."""

    def __init__(self, path: str, clock: Any, losses: Losses) -> None:
        super().__init__(clock, losses)
        self._path = path

    def open(self) -> None:
        self._file = RotatedFile.fromFullPath(self._path)

    def _reopen(self) -> None:
        """Write to a new file of the name; the one before is renamed, unless somebody has done that."""
        if self._file.is_in_place():
            self._file.rotate()
        else:
            self._file.reopen()
        self._partial_line = False  # whatever was torn was torn there

    def may_hang(self) -> bool:
        return self._file.is_on_disk

    def write(self, octets: bytes) -> int:
        return int(self._file.write(octets))


class StdoutSink(ThreadedSink):
    """Writes to the standard output, whatever that is.

    It belongs to others, too: to make it non-blocking would do so for the shell that has started us.  A
    socket can be told so with each call, a pipe or a terminal can be opened once more for us alone.  If it
    cannot, it is asked first, and gets no more than a pipe takes at once.
    """

    def __init__(self, clock: Any, descriptor: int = 1, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self._original = descriptor
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._is_private = False
        self._poll = select.poll()

    def open(self) -> None:
        kind = os.fstat(self._original).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            self._descriptor = self._reopen_private()
        self._is_private = self._descriptor >= 0
        if not self._is_private:
            self._descriptor = os.dup(self._original)
        if stat.S_ISSOCK(kind):  # systemd's, for one
            self._socket = socket.socket(fileno=self._descriptor)
        self._poll.register(self._descriptor, select.POLLOUT)

    def may_hang(self) -> bool:
        return _is_on_disk(self._descriptor)

    def _release(self) -> None:
        if self._descriptor >= 0:
            self._poll.unregister(self._descriptor)
            if self._socket is None:
                os.close(self._descriptor)
            else:
                self._socket.close()
            self._descriptor = -1

    def write(self, octets: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(octets, socket.MSG_DONTWAIT)
        if self._is_private:
            return os.write(self._descriptor, octets)
        if self._descriptor >= 0 and not self.wait_writable(0):
            raise BlockingIOError
        return os.write(self._descriptor, octets[: select.PIPE_BUF])

    def wait_writable(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def _reopen_private(self) -> int:
        """A descriptor of our own; -1 where there is no Linux, no permission, or nobody who reads."""
        try:
            return os.open(f"/proc/self/fd/{self._original}", _REOPEN_FLAGS)
        except OSError:
            return -1


def _is_on_disk(descriptor: int) -> bool:
    """Whether poll(2) and O_NONBLOCK say nothing about it: a write waits for its disk."""
    try:
        kind = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISREG(kind) or stat.S_ISBLK(kind)

"""Sinks for files and for standard output."""

from __future__ import annotations

import os
import select
import socket
import stat
from contextlib import suppress
from pathlib import Path

from twisted.python.logfile import LogFile

from esxiproxy.ops.logs.sink import Losses, SinkReactor
from esxiproxy.ops.logs.threaded_sink import ThreadedSink

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_REOPEN_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MODE = 0o640


class FileSink(ThreadedSink):
    """A sink that appends whole lines to a file in one write, so that several processes can share the file.

    A line is written up to 10 ms late.
    """

    gathering = 0.01

    def __init__(self, path: Path, clock: SinkReactor) -> None:
        super().__init__(clock)
        self._path = path
        self._descriptor = -1

    def open(self) -> None:
        self._descriptor = os.open(self._path, _FLAGS, _MODE)

    def _reopen(self) -> None:
        """Open the path again, which is a new file if the old one was renamed."""
        old, self._descriptor = self._descriptor, os.open(self._path, _FLAGS, _MODE)
        os.close(old)
        if not self._write_in_progress:  # a line that was cut off is in the old file
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
    """twistd's LogFile whose ``write`` returns the number of bytes written, fewer than all on a full disk."""

    def is_in_place(self) -> bool:
        """Return whether the path still names the open file."""
        with suppress(FileNotFoundError):
            return not self._file.closed and os.path.samestat(
                os.stat(self.path), os.fstat(self._file.fileno())
            )
        return False

    @property
    def is_on_disk(self) -> bool:
        """Whether a write may wait for a disk."""
        return not self._file.closed and _is_on_disk(self._file.fileno())

    def write(self, octets: bytes) -> int:
        if self._file.closed:  # opening it failed after a rotation
            self._openFile()
        if self.shouldRotate():
            self.rotate()
        taken: int = self._file.write(octets)
        self.size += taken
        return taken


class RotatedFileSink(ThreadedSink):
    """A sink that appends to twistd's log file, which is rotated at a size and by ``reopen``.

    A line that follows many others at once is written up to 10 ms late.
    """

    resting = 0.01

    def __init__(self, path: str, clock: SinkReactor, losses: Losses) -> None:
        super().__init__(clock, losses)
        self._path = path

    def open(self) -> None:
        self._file = RotatedFile.fromFullPath(self._path)

    def _reopen(self) -> None:
        """Rotate the file, or only open the path again if the file was renamed already."""
        if self._file.is_in_place():
            self._file.rotate()
        else:
            self._file.reopen()
        self._partial_line = False  # a line that was cut off is in the old file

    def may_hang(self) -> bool:
        return bool(self._file.is_on_disk)

    def write(self, octets: bytes) -> int:
        return int(self._file.write(octets))


class StdoutSink(ThreadedSink):
    """A sink that writes to standard output: a file, a pipe, a terminal or a socket.

    Other processes share it, such as the shell, so that it must not be made non-blocking.  A socket is
    written to with MSG_DONTWAIT.  A pipe or a terminal is opened again as a private, non-blocking descriptor.
    If that fails, it is polled before each write, which has at most PIPE_BUF bytes then.  Into a file, a line
    that follows many others at once is written up to 10 ms late.
    """

    resting = 0.01

    def __init__(self, clock: SinkReactor, descriptor: int = 1, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self._original = descriptor
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._takes_whole = False
        """Whether a write may have any size."""
        self._poll = select.poll()

    def open(self) -> None:
        kind = os.fstat(self._original).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            self._descriptor = self._reopen_private()
        self._takes_whole = self._descriptor >= 0
        if not self._takes_whole:
            self._descriptor = os.dup(self._original)
            # Writes to a file do not mix with those of others, and parts of a line would.
            self._takes_whole = stat.S_ISREG(kind)
        if stat.S_ISSOCK(kind):  # as under systemd
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
        if self._takes_whole:
            return os.write(self._descriptor, octets)
        if self._descriptor >= 0 and not self.wait_writable(0):
            raise BlockingIOError
        return os.write(self._descriptor, octets[: select.PIPE_BUF])

    def wait_writable(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def _reopen_private(self) -> int:
        """Return a private descriptor, or -1 without Linux or permission, or for a pipe without reader."""
        try:
            return os.open(f"/proc/self/fd/{self._original}", _REOPEN_FLAGS)
        except OSError:
            return -1


def _is_on_disk(descriptor: int) -> bool:
    """Return whether a descriptor is a file or block device, where writes block despite O_NONBLOCK."""
    try:
        kind = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISREG(kind) or stat.S_ISBLK(kind)

"""Lines into a file, or to the standard output."""

from __future__ import annotations

import os
import select
import socket
import stat
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from esxiproxy.ops.logsink import Sink

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MODE = 0o640


class FileSink(Sink):
    """Appends to a file, each line with one write: several processes may share it."""

    def __init__(self, path: Path, clock: IReactorTime) -> None:
        super().__init__(clock)
        self._path = path
        self._descriptor = -1

    def open(self) -> None:
        self._descriptor = os.open(self._path, _FLAGS, _MODE)

    def reopen(self) -> None:
        """After somebody has renamed the file: write to a new one of its name."""
        old, self._descriptor = self._descriptor, os.open(self._path, _FLAGS, _MODE)
        os.close(old)
        if not self._begun:  # whatever was torn was torn there
            self._torn = False

    def close(self) -> None:
        super().close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, octets: bytes) -> int:
        return os.write(self._descriptor, octets)


class StdoutSink(Sink):
    """Writes to the standard output, whatever that is.

    It belongs to others, too: to make it non-blocking would do so for the shell that has started us.  So it
    is asked first, and gets no more than a pipe takes at once.
    """

    def __init__(self, clock: IReactorTime, descriptor: int = 1) -> None:
        super().__init__(clock)
        self._given = descriptor
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._poll = select.poll()

    def open(self) -> None:
        self._descriptor = os.dup(self._given)
        if stat.S_ISSOCK(os.fstat(self._descriptor).st_mode):  # systemd's, for one
            self._socket = socket.socket(fileno=self._descriptor)
        self._poll.register(self._descriptor, select.POLLOUT)

    def close(self) -> None:
        super().close()
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
        if self._descriptor >= 0 and not self._poll.poll(0):
            raise BlockingIOError
        return os.write(self._descriptor, octets[: select.PIPE_BUF])

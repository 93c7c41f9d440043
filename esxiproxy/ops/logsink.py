"""Lines on their way out of the process, to somebody who may be slow, full or gone."""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from esxiproxy.core.record import Record

MAX_WAITING = 1 << 20
"""Bytes of lines that wait for a slow reader; what comes after them is lost."""
RETRY = 0.1
"""Seconds until a reader that takes nothing is tried again."""
QUIET = 60.0
"""Seconds between two complaints about lost lines."""


class Sink:
    """Takes lines and never blocks, never raises: what cannot be written is counted, and told of.

    A subclass says how a line is wrapped and how bytes are written.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._losses = Losses(clock)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._begun = self._torn = False
        self._retry: IDelayedCall | None = None

    def open(self) -> None:
        """Get ready.  Raises OSError."""

    def reopen(self) -> None:
        """Begin again where the name leads now.  Raises OSError, and then everything is as it was."""

    def close(self) -> None:
        """Write what can be written at once, and let go."""
        self._cancel()
        self._flush()
        self._cancel()
        for _ in self._waiting:
            self._losses.add("the reader takes nothing")
        self._waiting.clear()
        self._size = 0
        self._losses.stop()

    def send(self, line: str, record: Record, seconds: float) -> None:
        """Write a line as soon as it can be; ``seconds`` is the time of day."""
        octets = self.wrapped(line, record, seconds)
        if self._size + len(octets) > MAX_WAITING:
            self._losses.add("the reader takes nothing")
            return
        self._waiting.append(octets)
        self._size += len(octets)
        if self._retry is None:
            self._flush()

    def wrapped(self, line: str, record: Record, seconds: float) -> bytes:
        """The bytes of a line, with what has to be around it."""
        return line.encode("ascii", "backslashreplace") + b"\n"

    def write(self, octets: bytes) -> int:
        """Write some bytes or all of them; how many.  Raises OSError, BlockingIOError for "not now"."""
        raise NotImplementedError

    def _cancel(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _flush(self) -> None:
        self._retry = None
        while self._waiting:
            octets = self._waiting[0]
            try:
                if self._torn:  # half a line stands there: this one does not begin in its middle
                    self.write(b"\n")
                    self._torn = False
                taken = self.write(octets)
            except BlockingIOError:
                self._retry = self._clock.callLater(RETRY, self._flush)
                return
            except OSError as error:
                self._torn, self._begun = self._torn or self._begun, False
                self._losses.add(error.strerror or str(error))
                taken = len(octets)
            else:
                self._begun = taken < len(octets)
            self._replace(octets[taken:])

    def _replace(self, octets: bytes) -> None:
        """Put this in the place of the first line; no bytes mean that it is done."""
        self._size += len(octets) - len(self._waiting[0])
        if octets:
            self._waiting[0] = octets
        else:
            self._waiting.popleft()


class Losses:
    """Counts lost lines, and complains about them once a minute at most."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0
        self._why = ""
        self._quiet: IDelayedCall | None = None

    def add(self, why: str) -> None:
        """One more."""
        self._count += 1
        self._why = why
        if self._quiet is None:
            self._tell()

    def stop(self) -> None:
        """Tell of the last ones; no more will come."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._count:
            self._complain()

    def _tell(self) -> None:
        self._quiet = None
        if self._count:
            self._complain()
            self._quiet = self._clock.callLater(QUIET, self._tell)

    def _complain(self) -> None:
        self._log.warn("access log: {lost} lost: {why}", lost=_lines(self._count), why=self._why)
        self._count = 0


def _lines(count: int) -> str:
    return f"{count} line{'' if count == 1 else 's'}"

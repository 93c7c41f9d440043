"""Lines on their way out of the process, to somebody who may be slow, full or gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from esxiproxy.core.session.record import Record

MAX_QUEUED = 1 << 20
"""Bytes of lines that wait for a slow reader; what comes after them is lost."""
RETRY_DELAY = 0.1
"""Seconds until a reader that takes nothing is tried again."""
LOG_INTERVAL = 60.0
"""Seconds between two complaints about lost lines."""
READER_STALLED = "the reader takes nothing"
"""Why a line is lost that has no place in the queue."""


class Sink:
    """Takes lines and never blocks, never raises: what cannot be written is counted, and told of.

    A subclass says how a line is wrapped and how bytes are written.
    """

    def __init__(self, clock: Any, losses: Losses | None = None) -> None:
        self._clock = clock
        self._losses = losses or ReportedLosses(clock)
        self._queue: deque[tuple[bytes, int]] = deque()
        self._size = 0
        self._write_in_progress = self._partial_line = self._flushing = False
        self._retry: IDelayedCall | None = None

    def open(self) -> None:
        """Get ready.  Raises OSError."""

    def reactor_started(self) -> None:
        """Note that the loop runs, and that it may not stand still from now on."""

    def reopen(self, done: Callable[[OSError | None], None]) -> None:
        """Begin again where the name leads now.

        ``done`` is called in the loop: with an error everything is as it was.
        """
        done(self._try_reopen())

    def close(self) -> Deferred[None]:
        """Write what can be written at once, and let go."""
        self.flush_blocking(0.0)
        self._discard_queue()
        self._losses.stop()
        self._release()
        return succeed(None)

    @property
    def has_queued(self) -> bool:
        """Whether something could not be written yet."""
        return bool(self._queue)

    def flush_blocking(self, patience: float) -> None:
        """Write what is taken within so many seconds, when the loop runs no more: no other call waits."""
        end = self._clock.seconds() + patience
        while True:
            self._cancel()
            self._flush()
            left = end - self._clock.seconds()
            if not self._queue or left <= 0 or not self.wait_writable(left):
                break
        self._cancel()

    def send(self, line: str, record: Record, seconds: float) -> None:
        """Write a record's line as soon as it can be; ``seconds`` is the time of day."""
        self.put(self.encode(line, record, seconds))

    def put(self, octets: bytes, lines: int = 1) -> None:
        """Write bytes as soon as they can be; so many lines are lost when they are."""
        if self._size + len(octets) > MAX_QUEUED:
            self._losses.add(lines, READER_STALLED)
            return
        self._queue.append((octets, lines))
        self._size += len(octets)
        if self._retry is None:
            self._flush()

    def encode(self, line: str, record: Record, seconds: float) -> bytes:
        """The bytes of a line, with what has to be around it."""
        return line.encode("ascii", "backslashreplace") + b"\n"

    def write(self, octets: bytes) -> int:
        """Write some bytes or all of them; how many.  Raises OSError, BlockingIOError for "not now"."""
        raise NotImplementedError

    def wait_writable(self, seconds: float) -> bool:
        """Whether something may be written within so many seconds: waits for that."""
        return False

    def _reopen(self) -> None:
        """Begin again where the name leads now.  Raises OSError, and then everything is as it was."""

    def _release(self) -> None:
        """Let go of what was opened."""

    def _try_reopen(self) -> OSError | None:
        try:
            self._reopen()
        except OSError as error:
            return error
        return None

    def _discard_queue(self) -> None:
        """Count all that waits as lost."""
        for _, lines in self._queue:
            self._losses.add(lines, READER_STALLED)
        self._queue.clear()
        self._size = 0

    def _cancel(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _flush(self) -> None:
        self._retry = None
        if self._flushing:  # the garbage collector logs, too, and wherever it likes
            return
        self._flushing = True
        try:
            while self._queue:
                self._write_first()
        except BlockingIOError:
            self._retry = self._clock.callLater(RETRY_DELAY, self._flush)
        finally:
            self._flushing = False

    def _write_first(self) -> None:
        octets, lines = self._queue[0]
        taken, why = self._write_line(octets)
        if why:
            self._losses.add(lines, why)
        self._advance(taken)

    def _write_line(self, octets: bytes) -> tuple[int, str]:
        """Write a line or a part of it.

        Return how many bytes are done with, and why they are lost when they are.  Raises BlockingIOError.
        """
        try:
            if self._partial_line:  # half a line stands there: this one does not begin in its middle
                self.write(b"\n")
                self._partial_line = False
            taken = self.write(octets)
        except BlockingIOError:
            raise
        except OSError as error:
            self._partial_line, self._write_in_progress = self._partial_line or self._write_in_progress, False
            return len(octets), error.strerror or str(error)
        self._write_in_progress = taken < len(octets)
        return taken, ""

    def _advance(self, taken: int) -> None:
        """Take so many bytes of the first line away."""
        octets, lines = self._queue[0]
        self._size -= taken
        if taken < len(octets):
            self._queue[0] = octets[taken:], lines
        else:
            self._queue.popleft()


class Losses:
    """Lines that were lost, and not told of yet."""

    def __init__(self) -> None:
        self.lines = 0
        self.reason = ""
        self._lock = RLock()

    def __str__(self) -> str:
        return f"{self.lines} line{'' if self.lines == 1 else 's'} lost: {self.reason}"

    def add(self, lines: int, why: str) -> None:
        """Count so many more."""
        with self._lock:
            self.lines += lines
            self.reason = why

    def add_from_thread(self, lines: int, why: str) -> None:
        """Count so many more, which a thread has lost."""
        self.add(lines, why)

    def stop(self) -> None:
        """No more will come."""


class ReportedLosses(Losses):
    """The access log's, of which our own log is told once a minute at most."""

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock
        self._report_timer: IDelayedCall | None = None

    def add(self, lines: int, why: str) -> None:
        super().add(lines, why)
        if self._report_timer is None:
            self._report()

    def add_from_thread(self, lines: int, why: str) -> None:
        self._clock.callFromThread(self.add, lines, why)

    def stop(self) -> None:
        if self._report_timer is not None:
            self._report_timer.cancel()
            self._report_timer = None
        if self.lines:
            self._log_losses()

    def _report(self) -> None:
        self._report_timer = None
        if self.lines:
            self._log_losses()
            self._report_timer = self._clock.callLater(LOG_INTERVAL, self._report)

    def _log_losses(self) -> None:
        self._log.warn("access log: {losses}", losses=str(self))
        self.lines = 0

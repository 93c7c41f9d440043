"""Base class of log sinks: lines to a reader that may be slow or unavailable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from esxiproxy.core.session.record import Record

MAX_QUEUED = 1 << 20
"""Maximum number of queued bytes; further lines are lost."""
RETRY_DELAY = 0.1
"""Seconds after which a write that would have blocked is retried."""
LOG_INTERVAL = 60.0
"""Minimum number of seconds between two log messages about lost lines."""
READER_STALLED = "the reader accepts no data"
"""The reason for lines that are lost because the queue is full, or not written when the sink is closed."""


class SinkReactor(Protocol):
    """The part of a reactor that a sink uses."""

    def seconds(self) -> float:
        """Return the reactor's time."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object) -> IDelayedCall:
        """Call ``callable`` after ``delay`` seconds."""

    def callFromThread(self, callable: Callable[..., Any], *args: object) -> None:
        """Call ``callable`` in the reactor's thread."""


class LogReactor(SinkReactor, Protocol):
    """The part of a reactor that a log uses."""

    def callWhenRunning(self, callable: Callable[..., Any], *args: object) -> object:
        """Call ``callable`` when the reactor runs."""

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: object
    ) -> object:
        """Call ``callable`` at an event of the reactor, such as after its shutdown."""


class Sink:
    """A destination of log lines that never blocks and never raises.

    Lines that cannot be written now are queued; lines that are lost are counted in ``losses``.  A subclass
    defines how a line is encoded and how bytes are written.
    """

    def __init__(self, clock: SinkReactor, losses: Losses | None = None) -> None:
        self._clock = clock
        self._losses = losses or ReportedLosses(clock)
        self._queue: deque[tuple[bytes, int]] = deque()
        self._size = 0
        self._write_in_progress = self._partial_line = self._flushing = False
        self._retry: IDelayedCall | None = None

    def open(self) -> None:
        """Open the destination.  Raises OSError."""

    def reactor_started(self) -> None:
        """Note that the reactor runs, so that writes must not block it from now on."""

    def reopen(self, done: Callable[[OSError | None], None]) -> None:
        """Open the destination again, after its file was renamed.

        ``done`` is called in the reactor's thread with None, or with the error if the old one stays in use.
        """
        done(self._try_reopen())

    def close(self) -> Deferred[None]:
        """Write what can be written without blocking, count the rest as lost, and close the destination."""
        self.flush_blocking(0.0)
        self._discard_queue()
        self._losses.stop()
        self._release()
        return succeed(None)

    @property
    def has_queued(self) -> bool:
        """Whether lines are queued."""
        return bool(self._queue)

    def flush_blocking(self, timeout: float) -> None:
        """Write the queued lines, and block for them up to ``timeout`` seconds.

        To be called when the reactor does not run any more.
        """
        end = self._clock.seconds() + timeout
        while True:
            self._cancel()
            self._flush()
            left = end - self._clock.seconds()
            if not self._queue or left <= 0 or not self.wait_writable(left):
                break
        self._cancel()

    def send(self, line: str, record: Record, seconds: float) -> None:
        """Write or queue the line of a record; ``seconds`` is the time of day."""
        self.put(self.encode(line, record, seconds))

    def put(self, octets: bytes, lines: int = 1) -> None:
        """Write or queue bytes; ``lines`` is the number of lines that count as lost if they are."""
        if self._size + len(octets) > MAX_QUEUED:
            self._losses.add(lines, READER_STALLED)
            return
        self._queue.append((octets, lines))
        self._size += len(octets)
        if self._retry is None:
            self._flush()

    def encode(self, line: str, record: Record, seconds: float) -> bytes:
        """Return the bytes of a line as the destination expects them."""
        return line.encode("ascii", "backslashreplace") + b"\n"

    def write(self, octets: bytes) -> int:
        """Write all or some of the bytes and return how many.

        Raises BlockingIOError if none can be written now, and OSError if they are lost.
        """
        raise NotImplementedError

    def wait_writable(self, seconds: float) -> bool:
        """Block until the destination is writable, up to ``seconds``; return whether it is."""
        return False

    def _reopen(self) -> None:
        """Open the destination again.  Raises OSError, and the old one stays in use then."""

    def _release(self) -> None:
        """Close the destination."""

    def _try_reopen(self) -> OSError | None:
        try:
            self._reopen()
        except OSError as error:
            return error
        return None

    def _discard_queue(self) -> None:
        """Count all queued lines as lost and empty the queue."""
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
        if self._flushing:  # a line that the garbage collector logged within a write
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
        taken, reason = self._write_line(octets)
        if reason:
            self._losses.add(lines, reason)
        self._advance(taken)

    def _write_line(self, octets: bytes) -> tuple[int, str]:
        """Write a line or a part of it.

        Returns the number of bytes that were written or lost, and the reason of a loss or "".  Raises
        BlockingIOError.
        """
        try:
            if self._partial_line:  # the previous line was cut off: begin a new one
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
        """Remove ``taken`` bytes from the front of the queue."""
        octets, lines = self._queue[0]
        self._size -= taken
        if taken < len(octets):
            self._queue[0] = octets[taken:], lines
        else:
            self._queue.popleft()


class Losses:
    """The number of lines that were lost since the last message about it, and the reason of the last loss."""

    def __init__(self) -> None:
        self.lines = 0
        self.reason = ""
        self._lock = RLock()

    def __str__(self) -> str:
        return f"{self.lines} line{'' if self.lines == 1 else 's'} lost: {self.reason}"

    def add(self, lines: int, reason: str) -> None:
        """Count lost lines."""
        with self._lock:
            self.lines += lines
            self.reason = reason

    def add_from_thread(self, lines: int, reason: str) -> None:
        """Count lost lines; to be called in another thread than the reactor's."""
        self.add(lines, reason)

    def stop(self) -> None:
        """End the counting."""


class ReportedLosses(Losses):
    """Losses of the access log, which are logged every ``LOG_INTERVAL`` seconds at most."""

    _log = Logger()

    def __init__(self, clock: SinkReactor) -> None:
        super().__init__()
        self._clock = clock
        self._report_timer: IDelayedCall | None = None

    def add(self, lines: int, reason: str) -> None:
        super().add(lines, reason)
        if self._report_timer is None:
            self._report()

    def add_from_thread(self, lines: int, reason: str) -> None:
        self._clock.callFromThread(self.add, lines, reason)

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

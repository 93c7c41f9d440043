"""Base class of sinks whose writes may hang, as those to a disk: a thread makes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from esxiproxy.ops.logs.sink import MAX_QUEUED, READER_STALLED, RETRY_DELAY, Losses, Sink, SinkReactor

CLOSE_TIMEOUT = 1.0
"""Seconds that ``close`` waits for the thread to write the queued lines."""
MAX_BATCH = 1 << 16
"""Bytes above which no further line is added to one write."""
MANY_LINES = 8
"""Number of lines in one write that show that more will follow at once."""


class ThreadedSink(Sink):
    """A sink that writes in a thread while the reactor runs, if its writes may hang.

    Before ``reactor_started`` and after ``flush_blocking`` it writes in the calling thread.  The thread must
    not be started before the process becomes a daemon, since a fork does not copy threads.

    All lines that are queued are written at once.  The thread waits ``gathering`` seconds for more lines
    before it writes the first one, or ``resting`` seconds after a write of many lines, because waking it up
    costs more than formatting a line.
    """

    gathering = 0.0
    resting = 0.0

    def __init__(self, clock: SinkReactor, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._is_waiting = False
        """Whether the thread waits for a line, so that it has to be woken up."""
        self._hurried = threading.Event()
        """Set when the thread is not to wait for more lines."""
        self._wrote_many = False
        """Whether the last write had many lines."""
        self._has_failed = False
        """Whether the last write failed; each line is tried at once then, and counted if it is lost."""
        self._thread: threading.Thread | None = None
        self._reactor_runs = self._ending = self._closing = False
        self._jobs: deque[Callable[[], None]] = deque()
        """Calls for the thread to make between writes; the queue has an empty line at the place of each."""
        self._closed: Deferred[None] | None = None

    def may_hang(self) -> bool:
        """Return whether a write may hang, so that it needs a thread."""
        raise NotImplementedError

    def reactor_started(self) -> None:
        """Start the thread if writes may hang; to be called in the reactor's thread."""
        self._reactor_runs = True
        if self._thread is None and self.may_hang():
            self._cancel()
            self._ending = False
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def put(self, octets: bytes, lines: int = 1) -> None:
        with self._lock:  # a Condition's own methods take longer than all the rest
            if self._thread is None:
                fits = None
            elif fits := self._size + len(octets) <= MAX_QUEUED:
                self._enqueue(octets, lines)
        if fits is None:
            super().put(octets, lines)
        elif not fits:
            self._losses.add(lines, READER_STALLED)

    def reopen(self, done: Callable[[OSError | None], None]) -> None:
        def job() -> None:
            self._clock.callFromThread(done, self._try_reopen())

        with self._changed:
            if threaded := self._thread is not None:
                self._jobs.append(job)
                self._enqueue(b"", 0)
        if not threaded:
            super().reopen(done)
            if self._reactor_runs:  # a pipe may have been replaced by a file, which needs the thread
                self.reactor_started()

    def flush_blocking(self, timeout: float) -> None:
        self._reactor_runs = False
        thread = self._end_thread()
        if thread is not None:
            thread.join(timeout)
        if self._thread is None:
            super().flush_blocking(timeout)

    def close(self) -> Deferred[None]:
        """Close the destination when the thread has written the queue, or after ``CLOSE_TIMEOUT``.

        A thread that still hangs then closes the destination when its write returns.
        """
        closed: Deferred[None] = Deferred()
        with self._changed:
            thread = self._end_thread()
            self._closing = thread is not None
            self._closed = closed
        if thread is None:
            return super().close()
        clock = cast(IReactorTime, self._clock)
        closed.addTimeout(CLOSE_TIMEOUT, clock, onTimeoutCancel=lambda *_: self._discard_queue())
        return closed.addCallback(lambda _: self._losses.stop())

    def _end_thread(self) -> threading.Thread | None:
        with self._changed:
            self._ending = True
            self._hurried.set()
            self._changed.notify()
            return self._thread

    def _enqueue(self, octets: bytes, lines: int) -> None:
        self._queue.append((octets, lines))
        self._size += len(octets)
        if self._size >= MAX_BATCH:
            self._hurried.set()
        if self._is_waiting:
            self._changed.notify()

    # In the thread

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                self._write_or_do(*batch)
            except BlockingIOError:
                with self._changed:
                    if not self._ending:
                        self._changed.wait(RETRY_DELAY)
                        continue
                    self._thread = None
                break
        if self._closing:  # set only while this thread runs
            self._release()
            self._clock.callFromThread(self._on_thread_end)

    def _next_batch(self) -> tuple[list[tuple[bytes, int]], Callable[[], None] | None] | None:
        """Wait for lines or a call, and return them; return None when the thread is to exit."""
        if self.resting and self._wrote_many and not self._has_failed:
            self._hurried.wait(self.resting)
        with self._changed:
            self._is_waiting = True
            self._changed.wait_for(lambda: self._queue or self._ending)
            self._is_waiting = False
            if not self._ending and self._size < MAX_BATCH:
                self._hurried.clear()
        if self.gathering and not self._has_failed:
            self._hurried.wait(self.gathering)
        with self._changed:
            if not self._queue:
                self._thread = None
                return None
            if not self._queue[0][0]:
                return [self._queue[0]], self._jobs.popleft()
            return self._first_lines(), None

    def _first_lines(self) -> list[tuple[bytes, int]]:
        """Return the lines for one write, up to the next call."""
        batch, size = [], 0
        for line in self._queue:
            if not line[0] or size > MAX_BATCH:
                break
            batch.append(line)
            size += len(line[0])
        return batch

    def _write_or_do(self, batch: Sequence[tuple[bytes, int]], job: Callable[[], None] | None) -> None:
        """Make a call or write lines.  Of lines that cannot be written only the first one is lost."""
        taken, reason = 0, ""
        first, lines = batch[0]
        self._wrote_many = len(batch) >= MANY_LINES
        try:
            if job is not None:
                job()
            else:
                taken, reason = self._write_line(b"".join(octets for octets, _ in batch))
        except BlockingIOError:
            raise
        except Exception as error:  # the thread must survive, or no further line would be written
            reason = f"bug: {error!r}"
        self._has_failed = bool(reason)
        if reason:
            taken = len(first)
            self._losses.add_from_thread(lines, reason)
        with self._changed:
            self._advance_lines(taken)

    def _advance_lines(self, taken: int) -> None:
        """Remove ``taken`` bytes of one or more lines from the queue, unless ``close`` has discarded it."""
        if not taken and self._queue:
            self._advance(0)  # a call
        while taken and self._queue:
            size = min(taken, len(self._queue[0][0]))
            self._write_in_progress = size < len(self._queue[0][0])
            self._advance(size)
            taken -= size

    def _on_thread_end(self) -> None:
        if self._closed is not None and not self._closed.called:
            self._discard_queue()
            self._closed.callback(None)

    def _discard_queue(self) -> None:
        with self._changed:
            super()._discard_queue()
            self._jobs.clear()

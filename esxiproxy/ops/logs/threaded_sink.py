"""Base class of sinks whose writes may hang, as those to a disk: a thread makes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from esxiproxy.ops.logs.sink import MAX_QUEUED, READER_STALLED, RETRY_DELAY, Losses, Sink, SinkReactor

CLOSE_TIMEOUT = 1.0
"""Seconds that ``close`` waits for the thread to write the queued lines."""


class ThreadedSink(Sink):
    """A sink that writes in a thread while the reactor runs, if its writes may hang.

    Before ``reactor_started`` and after ``flush_blocking`` it writes in the calling thread.  The thread must
    not be started before the process becomes a daemon, since a fork does not copy threads.
    """

    def __init__(self, clock: SinkReactor, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self._changed = threading.Condition()
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
        with self._changed:
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
            self._changed.notify()
            return self._thread

    def _enqueue(self, octets: bytes, lines: int) -> None:
        self._queue.append((octets, lines))
        self._size += len(octets)
        self._changed.notify()

    # In the thread

    def _run(self) -> None:
        while (first := self._next_item()) is not None:
            try:
                self._write_or_do(*first)
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

    def _next_item(self) -> tuple[bytes, int, Callable[[], None] | None] | None:
        """Wait for a line or a call, and return it; return None when the thread is to exit."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ending)
            if not self._queue:
                self._thread = None
                return None
            octets, lines = self._queue[0]
            return octets, lines, None if octets else self._jobs.popleft()

    def _write_or_do(self, octets: bytes, lines: int, job: Callable[[], None] | None) -> None:
        taken, reason = 0, ""
        try:
            if job is not None:
                job()
            else:
                taken, reason = self._write_line(octets)
        except BlockingIOError:
            raise
        except Exception as error:  # the thread must survive, or no further line would be written
            taken, reason = len(octets), f"bug: {error!r}"
        if reason:
            self._losses.add_from_thread(lines, reason)
        with self._changed:
            if self._queue:  # not discarded meanwhile by close()
                self._advance(taken)

    def _on_thread_end(self) -> None:
        if self._closed is not None and not self._closed.called:
            self._discard_queue()
            self._closed.callback(None)

    def _discard_queue(self) -> None:
        with self._changed:
            super()._discard_queue()
            self._jobs.clear()

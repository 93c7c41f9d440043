"""Lines into something that may hang, as a file does with its disk: a thread of its own writes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from esxiproxy.ops.logs.sink import MAX_QUEUED, READER_STALLED, RETRY_DELAY, Losses, Sink

CLOSE_TIMEOUT = 1.0
"""Seconds in which the thread has to write what still waits when the sink is closed."""


class ThreadedSink(Sink):
    """A sink that writes in a thread once ``begin`` was called, if its writes may hang.

    Before that, and after ``finish``, it writes at once like every other sink: no loop runs that would stand
    still.  The thread must not exist when the process becomes a daemon, since a fork leaves threads behind.
    """

    def __init__(self, clock: Any, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._reactor_runs = self._ending = self._closing = False
        self._jobs: deque[Callable[[], None]] = deque()
        """What the thread is to do beside writing; an empty line in the queue stands for each."""
        self._closed: Deferred[None] | None = None

    def may_hang(self) -> bool:
        """Whether a write may take as long as it likes."""
        raise NotImplementedError

    def reactor_started(self) -> None:
        """Write in a thread from now on; to be called by the loop when it runs."""
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
            if self._reactor_runs:  # what was a pipe may be a file now
                self.reactor_started()

    def flush_blocking(self, patience: float) -> None:
        self._reactor_runs = False
        thread = self._end_thread()
        if thread is not None:
            thread.join(patience)
        if self._thread is None:
            super().flush_blocking(patience)

    def close(self) -> Deferred[None]:
        """Let go when the thread has written what waits, or when its time is up."""
        closed: Deferred[None] = Deferred()
        with self._changed:
            thread = self._end_thread()
            self._closing = thread is not None
            self._closed = closed
        if thread is None:
            return super().close()
        closed.addTimeout(CLOSE_TIMEOUT, self._clock, onTimeoutCancel=lambda *_: self._discard_queue())
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
        if self._closing:  # which is not said any more to a thread that has ended
            self._release()
            self._clock.callFromThread(self._on_thread_end)

    def _next_item(self) -> tuple[bytes, int, Callable[[], None] | None] | None:
        """Wait for a line, or for something else to do; None when this thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ending)
            if not self._queue:
                self._thread = None
                return None
            octets, lines = self._queue[0]
            return octets, lines, None if octets else self._jobs.popleft()

    def _write_or_do(self, octets: bytes, lines: int, job: Callable[[], None] | None) -> None:
        taken, why = 0, ""
        try:
            if job is not None:
                job()
            else:
                taken, why = self._write_line(octets)
        except BlockingIOError:
            raise
        except Exception as error:  # without its thread nothing would be written any more
            taken, why = len(octets), f"a bug: {error!r}"
        if why:
            self._losses.add_from_thread(lines, why)
        with self._changed:
            if self._queue:  # or nobody waits for them any more
                self._advance(taken)

    def _on_thread_end(self) -> None:
        if self._closed is not None and not self._closed.called:
            self._discard_queue()
            self._closed.callback(None)

    def _discard_queue(self) -> None:
        with self._changed:
            super()._discard_queue()
            self._jobs.clear()

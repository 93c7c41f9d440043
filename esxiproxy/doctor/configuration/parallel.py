"""Checks of many hosts in several threads."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_TURN = 0.2
"""Seconds after which the main thread looks for a signal.

A signal that another thread received, or that came just before the wait began, does not end a wait.
"""


def in_parallel(
    items: Sequence[T], make_check: Callable[[], Callable[[T], R]], threads: int
) -> Generator[tuple[int, R], None, None]:
    """Yield the place of each item and the result of its check, in the order in which the checks end.

    Each thread calls ``make_check`` once and then checks one item after another.  A check must not raise.
    The threads are daemons and are not joined: an interrupted caller does not wait for them.
    """
    places = iter(range(len(items)))
    lock = threading.Lock()
    done: queue.SimpleQueue[tuple[int, R]] = queue.SimpleQueue()

    def work() -> None:
        check = make_check()
        while True:
            with lock:
                place = next(places, None)
            if place is None:
                return
            done.put((place, check(items[place])))

    try:
        for number in range(min(threads, len(items))):
            try:
                threading.Thread(target=work, name="host check", daemon=True).start()
            except RuntimeError:  # the system has no thread left: those that run check all items
                if number == 0:
                    raise
                break
        for _ in items:
            yield _next_of(done)
    finally:
        with lock:  # an interrupted caller: no further check begins
            places = iter(())


def _next_of(done: queue.SimpleQueue[T]) -> T:
    """Wait for the next result, so that Ctrl-C is seen within a turn."""
    while True:
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=_TURN)


class AddressSlots:
    """The number of connections to each address, which stays small however many names one address has."""

    MOST = 8
    """Maximum number of connections to one address at a time.  ESXi accepts 128 for all of its clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[str, threading.BoundedSemaphore] = {}

    def of(self, address: str) -> threading.BoundedSemaphore:
        """Return the semaphore of an address, which its connections hold."""
        with self._lock:
            return self._slots.setdefault(address, threading.BoundedSemaphore(self.MOST))

"""Reads the files of a plugin in a thread, and again when they have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from esxiproxy.core.errors import LimitReached
from esxiproxy.plugins import Context

T = TypeVar("T")

SETTLE_DELAY = 0.5
"""Seconds between the sight of a change and the reading, since programs write a file in several steps."""


class OnRemoved(Enum):
    """The treatment of running consoles when their host or their user is removed from a file."""

    KEEP = "keep"
    """Consoles continue."""
    END = "end"
    """Consoles are closed."""


class WatchedFiles(Generic[T]):
    """Files that are read as one value.

    ``read`` is called in a thread: for the first value, and after each change.  ``loaded`` is called with the
    value after a change, and ``failed`` with the error that ``read`` raised then.  ``value`` is the newest
    one, None before the first one.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        context: Context,
        read: Callable[[], T],
        loaded: Callable[[T], object],
        failed: Callable[[Failure], object],
    ) -> None:
        self._context = context
        self._read = read
        self._loaded = loaded
        self._failed = failed
        self._timer: IDelayedCall | None = None
        self._readings = 0
        self.value: T | None = None
        for path in paths:
            context.watch(path, self._changed)

    async def current(self) -> T:
        """Return the newest value.  The first call reads the files, and raises what ``read`` raises."""
        if self.value is None:
            self._readings += 1
            try:
                found: T = await self._context.in_thread(self._read)
            finally:
                self._readings -= 1
            if self.value is None:
                self.value = found
        return self.value

    def _changed(self) -> None:
        if self._timer is None:
            self._timer = self._context.clock.callLater(SETTLE_DELAY, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._readings:  # the thread may have read the version before
            self._changed()
            return
        self._readings += 1
        reading: Deferred[Any] = self._context.in_thread(self._read)
        reading.addBoth(self._ended)

    def _ended(self, outcome: T | Failure) -> None:
        self._readings -= 1
        if not isinstance(outcome, Failure):
            self.value = outcome
            self._loaded(outcome)
        elif isinstance(outcome.value, CancelledError):  # the plugin has stopped
            return
        elif isinstance(outcome.value, LimitReached):  # no thread is free
            self._changed()
        else:
            self._failed(outcome)

"""Reads files in threads, and waits only shortly for a disk that hangs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

TIMEOUT = 2.0
"""Seconds from the begin of a read for which its callers wait."""


@dataclass(eq=False, slots=True)
class _Running:
    """A read that has yet to end, and the Deferreds of its callers."""

    began: float
    waiting: list[Deferred[None]] = field(default_factory=list)
    is_late: bool = False


class FileReads:
    """Reads of files, each of which runs once at a time.

    A read that hangs keeps one thread busy, however often its file is wanted.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def run(self, name: str, read: Callable[[], Awaitable[None]]) -> None:
        """Read a file unless that is under way, and return when the read has ended, or is late."""
        if name not in self._running:
            self._running[name] = _Running(self._clock.seconds())
            Deferred.fromCoroutine(self._read(name, read))
        running = self._running.get(name)
        if running is None or running.is_late:
            return
        waiting: Deferred[None] = Deferred()
        running.waiting.append(waiting)
        left = max(0.0, running.began + TIMEOUT - self._clock.seconds())
        waiting.addTimeout(left, self._clock, onTimeoutCancel=lambda *_: self._note_late(name, running))
        await waiting

    async def _read(self, name: str, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except Exception:
            self._log.failure("bug: {name} cannot be read, what is known of it is used", name=name)
        finally:
            for each in self._running.pop(name).waiting:
                if not each.called:
                    each.callback(None)

    def _note_late(self, name: str, running: _Running) -> None:
        if not running.is_late:
            running.is_late = True
            self._log.warn(
                "{name} was not read within {seconds:g} s: its disk may hang; what is known of it is used",
                name=name,
                seconds=TIMEOUT,
            )

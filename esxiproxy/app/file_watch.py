"""Watches files and folders of a plugin for changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

INTERVAL = 1.0
"""Seconds between two looks."""

Look = tuple[tuple[str, int, int, int], ...]
"""Name, time of change in nanoseconds, size and inode of a file, or of all files of a folder."""


class FileWatch(Service):
    """Checks files once a second in a thread, and calls a function in the reactor when one has changed."""

    _log = Logger()

    def __init__(self, section: str, reactor: Any) -> None:
        self._section = section
        self._reactor = reactor
        self._watched: list[tuple[Path, Callable[[], None]]] = []
        self._seen: list[Look] = []
        self._timer: IDelayedCall | None = None

    def watch(self, path: Path, changed: Callable[[], None]) -> None:
        """Call ``changed`` after each change of a file, or of a file of a folder."""
        self._watched.append((path, changed))
        self._seen.append(look(path))
        self._schedule()

    @property
    def is_unused(self) -> bool:
        """Whether no file is watched."""
        return not self._watched

    def startService(self) -> None:
        super().startService()
        self._schedule()

    def stopService(self) -> None:
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _schedule(self) -> None:
        if self.running and self._watched and self._timer is None:
            self._timer = self._reactor.callLater(INTERVAL, self._check)

    def _check(self) -> None:
        paths = [path for path, _ in self._watched]
        pool = self._reactor.getThreadPool()
        looking: Deferred[list[Look]] = deferToThreadPool(
            self._reactor, pool, lambda: [look(path) for path in paths]
        )
        looking.addCallback(self._compare)
        looking.addErrback(
            lambda failure: self._log.failure(
                "[{section}] cannot watch its files", failure, section=self._section
            )
        )
        looking.addBoth(self._check_later)

    def _compare(self, found: list[Look]) -> None:
        before, self._seen[: len(found)] = self._seen[: len(found)], found
        for old, new, (_path, changed) in zip(before, found, self._watched, strict=False):
            if old != new and self.running:
                try:
                    changed()
                except Exception:
                    self._log.failure("[{section}] failed after a change of its file", section=self._section)

    def _check_later(self, _result: object) -> None:
        self._timer = None
        self._schedule()


def look(path: Path) -> Look:
    """Return what tells one state of a file or a folder from another; empty if there is none."""
    try:
        if not path.is_dir():
            return (_facts(path),)
        with os.scandir(path) as entries:
            return tuple(sorted(map(_facts, entries)))
    except OSError:
        return ()


def _facts(entry: Any) -> tuple[str, int, int, int]:
    try:
        found = entry.stat()
    except OSError:  # a broken link
        return (entry.name, 0, 0, 0)
    return (entry.name, found.st_mtime_ns, found.st_size, found.st_ino)

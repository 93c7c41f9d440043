"""Collects the exit status of orphaned processes while this process has PID 1, as in a container."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.process import reapProcessHandlers
from twisted.internet.task import LoopingCall

INTERVAL = 5.0
"""Seconds between two looks.  An orphan that has exited remains a zombie for two of them at most."""


class OrphanReaper(Service):
    """A service that reaps exited processes whose parent has exited before them.

    The kernel makes the process with PID 1 their parent.  Twisted reaps its own children only, and a plugin
    may wait for children of its own.  Both do so at once, so an orphan is a child that has been a zombie at
    two looks in a row.
    """

    def __init__(self, clock: IReactorTime, is_first: Callable[[], bool] = lambda: os.getpid() == 1) -> None:
        self._is_first = is_first
        self._exited: frozenset[int] = frozenset()
        self._call = LoopingCall(self._check)
        self._call.clock = clock

    def startService(self) -> None:
        super().startService()
        if self._is_first():
            self._call.start(INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._call.running:
            self._call.stop()

    def _check(self) -> None:
        exited = frozenset(filter(_has_exited, _children()))
        for pid in exited & self._exited - reapProcessHandlers.keys():
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._exited = exited


def _children() -> list[int]:
    """Return the process ids of the children of all threads of this process."""
    found = []
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            found += [int(word) for word in file.read_text().split()]
    return found


def _has_exited(pid: int) -> bool:
    """Return whether a child has exited and is a zombie, which it remains."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False

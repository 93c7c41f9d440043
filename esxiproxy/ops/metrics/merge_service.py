"""Merges the metrics of ended processes regularly, also if they are never read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

MERGE_INTERVAL = 60.0
"""Seconds between two merges."""


class MergeService(Service):
    """A service that merges the files of a folder once a minute, in a thread.

    ``in_thread`` calls a function in a thread, and returns its result.
    """

    _log = Logger()

    def __init__(self, folder: Path, in_thread: Callable[..., Awaitable[Any]], clock: IReactorTime) -> None:
        self.setName("merge of metrics")
        self._folder = folder
        self._in_thread = in_thread
        self._has_failed = False
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._merge()))
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._loop.start(MERGE_INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    async def _merge(self) -> None:
        from esxiproxy.ops.metrics.merging import merge_dead  # prometheus-client is an optional dependency

        try:
            await self._in_thread(merge_dead, self._folder)
        except Exception as error:
            if not self._has_failed:
                self._log.error(
                    "the metrics of ended processes in {folder} could not be merged: {error!r}; "
                    "their files stay, and the merge is tried again each minute",
                    folder=self._folder,
                    error=error,
                )
            self._has_failed = True
        else:
            self._has_failed = False

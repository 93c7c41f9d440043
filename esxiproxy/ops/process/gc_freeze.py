"""Keeps the garbage collector from scanning the objects that live as long as the process."""

from __future__ import annotations

import gc

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime


class GCFreeze(Service):
    """A service that calls gc.freeze() after the start, for modules, configuration and listeners.

    A full collection blocks the event loop while it scans all objects that are not frozen (30 ms).
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def startService(self) -> None:
        super().startService()
        self._clock.callLater(0, self._freeze)

    def _freeze(self) -> None:
        gc.collect()
        gc.freeze()

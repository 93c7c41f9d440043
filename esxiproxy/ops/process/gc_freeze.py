"""Python's garbage collector, kept from stopping every console for what has been there since the start."""

from __future__ import annotations

import gc

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime


class GCFreeze(Service):
    """Sets aside what there is when everything has started: modules, the configuration, the listeners.

    A full collection looks at every object that is not set aside, and no console moves meanwhile: sessions
    leave next to no garbage, but each look would cost 30 ms before there is any.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def startService(self) -> None:
        super().startService()
        self._clock.callLater(0, self._freeze)

    def _freeze(self) -> None:
        gc.collect()
        gc.freeze()

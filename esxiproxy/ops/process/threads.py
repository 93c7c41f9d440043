"""The reactor's threads, for which the end of the process does not wait for ever."""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

STOP_TIMEOUT = 1.0
"""Seconds that whatever is done in them gets, once all services have stopped."""


class Threads(Service):
    """Has the pool's threads end with the process, done or not.

    Plugins use them, and a call that does not return holds one for as long as it takes.  Twisted joins all of
    them, with everything that waits for them, and Python does so once more.  The services have stopped by
    then: nobody wants what they find.  This is for a process of our own, not for one that the proxy is
    embedded in.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self.setName("threads")
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        pool = self._reactor.getThreadPool()
        pool.threadFactory = partial(Thread, daemon=True)
        pool.stop = partial(self._stop, pool.stop)  # which the reactor calls as its last

    def _stop(self, join: Any) -> None:
        joining = Thread(target=join, daemon=True)
        joining.start()
        joining.join(STOP_TIMEOUT)
        if joining.is_alive():
            self._log.warn("the end does not wait for threads that are busy")

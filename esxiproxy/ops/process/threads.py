"""Keeps busy threads from blocking the exit of the process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

STOP_TIMEOUT = 1.0
"""Seconds for which the exit waits for busy threads, once all services have stopped."""


class Threads(Service):
    """A service that makes the threads of the reactor's pool daemon threads.

    A plugin's call that does not return keeps a thread busy.  Twisted joins all threads of the pool at the
    end, and so does Python.  All services have stopped by then, so the results of the threads are not needed.
    This service must not be used in a program that embeds the proxy.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorThreads) -> None:
        self.setName("threads")
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        pool: Any = self._reactor.getThreadPool()  # two of its attributes are replaced
        pool.threadFactory = partial(Thread, daemon=True)
        pool.stop = partial(self._stop, pool.stop)  # the reactor calls it at the end

    def _stop(self, join: Callable[[], object]) -> None:
        joining = Thread(target=join, daemon=True)
        joining.start()
        joining.join(STOP_TIMEOUT)
        if joining.is_alive():
            self._log.warn(
                "threads are still busy after {seconds:g} s: exiting without them", seconds=STOP_TIMEOUT
            )

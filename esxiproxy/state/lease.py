"""What keeps a holder's lease, and asks for its commands, while it takes part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from esxiproxy.core.errors import StateUnavailable

LEASE = 15.0
"""Seconds after which what a killed process had comes back."""
LOST_SESSION_RETENTION = 86400.0
"""Seconds after that in which its sessions are kept for whoever records them: later nobody will."""
RENEWALS_PER_LEASE = 3
"""How often within a lease it is renewed: two may fail."""


class PeriodicTask:
    """Calls something every so many seconds, one call at a time, whatever becomes of it.

    A state that is gone is told of once, and once when it is back: not with every call.
    """

    _log = Logger()

    def __init__(self, call: Callable[[], Any], what: str, clock: IReactorTime) -> None:
        self._call = call
        self._what = what
        self._loop = LoopingCall(self._once)
        self._loop.clock = clock
        self._is_unavailable = False

    def start(self, interval: float) -> None:
        """Call it from now on, for the first time after one interval."""
        self._loop.start(interval, now=False)

    def stop(self) -> None:
        """Do not call it any more."""
        if self._loop.running:
            self._loop.stop()

    def _once(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._run_guarded())

    async def _run_guarded(self) -> None:
        try:
            await self._call()
        except StateUnavailable as error:
            if not self._is_unavailable:
                self._log.error("the shared state is gone, {what}: {error}", what=self._what, error=error)
            self._is_unavailable = True
        except Exception:
            self._log.failure("a bug, {what}", what=self._what)
        else:
            if self._is_unavailable:
                self._log.info("the shared state is back, {what}", what=self._what)
            self._is_unavailable = False

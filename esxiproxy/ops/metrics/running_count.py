"""Counts running consoles once a second while the metrics are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

if TYPE_CHECKING:
    from esxiproxy.ops.metrics.observer import CountedSession, MetricsObserver

COUNT_INTERVAL = 1.0
"""Seconds between two counts of running consoles."""
MAX_AT_ONCE = 500
"""Maximum number of sessions that are counted in one turn of the reactor."""


class RunningCount(Service):
    """A service that counts the bytes and round trips of running consoles once a second while it is watched.

    Else these are counted when a console ends, and the service does nothing.  ``sessions`` returns the live
    sessions.
    """

    _log = Logger()

    def __init__(
        self, observer: MetricsObserver, sessions: Callable[[], Iterable[CountedSession]], clock: IReactorTime
    ) -> None:
        self.setName("running count")
        self._observer = observer
        self._sessions = sessions
        self._call = LoopingCall(self._count)
        self._call.clock = self._clock = clock
        self._is_watched = False

    @property
    def is_counting(self) -> bool:
        """Whether consoles are counted each second."""
        return self._call.running

    def watch(self, is_watched: bool) -> None:
        """Begin or stop to count running consoles."""
        self._is_watched = is_watched
        self._arm()

    def startService(self) -> None:
        super().startService()
        self._arm()

    def stopService(self) -> None:
        super().stopService()
        self._arm()

    def _arm(self) -> None:
        if self._is_watched and self.running:
            if not self._call.running:
                self._call.start(COUNT_INTERVAL)
        elif self._call.running:
            self._call.stop()

    def _count(self) -> Deferred[None]:
        counting = Deferred.fromCoroutine(self._count_all())
        return counting.addErrback(
            lambda failure: self._log.failure(
                "the bytes of running consoles could not be counted, the next count is in a second", failure
            )
        )

    async def _count_all(self) -> None:
        sessions = list(self._sessions())
        for first in range(0, len(sessions), MAX_AT_ONCE):
            if first:
                await deferLater(self._clock, 0)
            self._observer.count_running(sessions[first : first + MAX_AT_ONCE])

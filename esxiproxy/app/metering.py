"""The metrics of a process: counted from the first configuration with [admin] on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.metrics.running_count import RunningCount

if TYPE_CHECKING:
    from esxiproxy.ops.metrics.metrics import Metrics
    from esxiproxy.ops.metrics.observer import CountedSession, MetricsObserver


@implementer(ISessionObserver)
class Metering(MultiService):
    """A session observer that passes everything to the metrics, once these are begun.

    Without them prometheus_client is not imported.  ``sessions`` returns the live sessions.
    """

    def __init__(self, sessions: Callable[[], Iterable[CountedSession]], clock: IReactorTime) -> None:
        super().__init__()
        self._sessions = sessions
        self._clock = clock
        self._observer: MetricsObserver | None = None
        self._running_count: RunningCount | None = None
        self._is_watched = False

    @property
    def has_begun(self) -> bool:
        """Whether this process counts."""
        return self._observer is not None

    @property
    def is_counting(self) -> bool:
        """Whether the bytes of running consoles are counted each second."""
        return self._running_count is not None and self._running_count.is_counting

    @property
    def metrics(self) -> Metrics:
        """The metrics of this process, which are begun."""
        assert self._observer is not None
        return self._observer.metrics

    def begin(self) -> None:
        """Begin to count, in the folder that the environment names, or else in memory.

        Consoles that are open already are counted as opened now.
        """
        if self._observer is not None:
            return
        # prometheus-client is an optional dependency, and decides at its import where values are stored.
        from esxiproxy.ops.metrics.files import process_metrics
        from esxiproxy.ops.metrics.observer import MetricsObserver

        self._observer = MetricsObserver(process_metrics())
        if self.running:  # else there are no sessions yet
            self._observer.begin(self._sessions())
        self._running_count = RunningCount(self._observer, self._sessions, self._clock)
        self._running_count.setServiceParent(self)
        self._running_count.watch(self._is_watched)

    def watch(self, is_watched: bool) -> None:
        """Count running consoles each second while the metrics are read."""
        self._is_watched = is_watched
        if self._running_count is not None:
            self._running_count.watch(is_watched)

    def opened(self, session: Session) -> None:
        if self._observer is not None:
            self._observer.opened(session)

    def closed(self, record: Record) -> None:
        if self._observer is not None:
            self._observer.closed(record)

    def refused(self, limit: str) -> None:
        """Count a refusal under a limit, by the limit's configuration key."""
        if self._observer is not None:
            self._observer.refused(limit)

    def lagged(self, seconds: float) -> None:
        """Count the delay of a timer of the event loop."""
        if self._observer is not None:
            self._observer.lagged(seconds)

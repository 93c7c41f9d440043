"""Counts the sessions of one process in its metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import Histogram
from zope.interface import implementer

from esxiproxy.core import errors
from esxiproxy.core.errors import ProxyLost, SessionError, StallTimeout, TLSHandshakeFailed
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.metrics.metrics import OTHER, WORKER_LOST, Metrics

_ERRORS = frozenset(
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, SessionError) and value is not SessionError
)
"""The names of all failures.  A plugin may add classes of its own, which are counted as ``other``."""
_CLOSES = {1000: "normal", 1001: "going_away", None: "no_code"}
"""The reason of a regular end by the code of its Close."""
_PHASES = ("authenticated", "routed", "opened")
"""The phases of an opening handshake, in their order."""


Histograms = Sequence[tuple[str, Histogram]]
"""The names of phases, each with the histogram of its duration."""


class CountedSession(Protocol):
    """A live session."""

    session: Session


class _Series:
    """The metrics of the consoles with the same labels, looked up once."""

    __slots__ = ("host", "listener", "open", "opened", "phases", "upstream")

    def __init__(self, metrics: Metrics, listener: str, upstream: str, host: str) -> None:
        self.listener = listener
        self.upstream = upstream
        self.host = host
        self.opened = metrics.opened(listener, upstream)
        self.open = metrics.open(listener, upstream, host)
        self.phases: Histograms = ()
        metrics.closed(listener, upstream, WORKER_LOST)  # 0: an increase needs a value before


class _Counted:
    """The values of an open console that are counted already, and its metrics."""

    __slots__ = ("down", "round_trip", "series", "up")

    def __init__(self, series: _Series) -> None:
        self.series = series
        self.up = self.down = 0
        self.round_trip: float | None = None


@implementer(ISessionObserver)
class MetricsObserver:
    """The observer that counts each session once.

    Only the end of a console whose opening was counted is counted, so that the consoles that were opened are
    those that are open and those that have ended.  Its bytes are counted when it ends, and before that with
    each call of ``count_running``.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._open: dict[str, _Counted] = {}
        self._series: dict[tuple[str, str, str], _Series] = {}

    def opened(self, session: Session) -> None:
        series = self._console_opened(session).series
        if not series.phases:
            series.phases = self._histograms(series.listener, series.upstream, session.phases)
        _observe(series.phases, session.phases)

    def begin(self, sessions: Iterable[CountedSession]) -> None:
        """Count the consoles among these sessions that are open already, and their bytes from now on."""
        for live in sessions:
            session = live.session
            is_open = session.kind is Kind.CONSOLE and session.status == 101
            traffic = session.traffic
            if is_open and traffic is not None and session.id not in self._open:
                counted = self._console_opened(session)
                counted.up, counted.down = traffic.octets_up, traffic.octets_down
                counted.round_trip = session.round_trip

    def closed(self, record: Record) -> None:
        counted = self._open.pop(record.session, None)
        if counted is not None:
            self._console_ended(counted, record)
        elif record.kind is Kind.HTTP:
            self._request_ended(record)
        elif record.status != 101:
            self._handshake_failed(record)
        elif record.error == ProxyLost.__name__:
            metrics = self.metrics
            metrics.lost(metrics.listener(record.listener), metrics.upstream(record.upstream)).inc()
        # Else another worker has counted the opening of the console, and crashed.

    def refused(self, limit: str) -> None:
        """Count a refusal under a limit, by the limit's configuration key."""
        self.metrics.refusals(limit).inc()

    def lagged(self, seconds: float) -> None:
        """Count the delay of a timer of the event loop."""
        self.metrics.lag().observe(seconds)

    def count_running(self, sessions: Iterable[CountedSession]) -> None:
        """Count the bytes and round trips of these sessions since the call before."""
        grown: dict[tuple[str, str, str], int] = defaultdict(int)
        for live in sessions:
            counted = self._open.get(live.session.id)
            traffic = live.session.traffic
            if counted is None or traffic is None:
                continue
            up, down = traffic.octets_up, traffic.octets_down
            series = counted.series
            if up != counted.up:
                grown[series.listener, series.upstream, "up"] += up - counted.up
                counted.up = up
            if down != counted.down:
                grown[series.listener, series.upstream, "down"] += down - counted.down
                counted.down = down
            self._count_round_trip(counted, live.session.round_trip)
        for labels, octets in grown.items():
            self.metrics.octets(*labels).inc(octets)

    def _console_opened(self, session: Session) -> _Counted:
        metrics, destination = self.metrics, session.route.destination if session.route else None
        labels = (
            metrics.listener(session.request.listener),
            metrics.upstream(destination.template.name) if destination else "",
            self._host(destination.name, destination.is_listed) if destination else "",
        )
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(metrics, *labels)
        counted = self._open[session.id] = _Counted(series)
        # From here on the console is counted as lost when the process crashes.
        series.opened.inc()
        series.open.inc()
        return counted

    def _console_ended(self, counted: _Counted, record: Record) -> None:
        series = counted.series
        listener, upstream = series.listener, series.upstream
        self.metrics.closed(listener, upstream, _reason(record)).inc()
        series.open.dec()
        self._count_octets(
            listener, upstream, record.octets_up - counted.up, record.octets_down - counted.down
        )
        self._count_round_trip(counted, record.round_trip)
        self._count_stall(listener, upstream, record)

    def _handshake_failed(self, record: Record) -> None:
        metrics = self.metrics
        listener, upstream = metrics.listener(record.listener), metrics.upstream(record.upstream)
        host = self._host(record.host, record.is_host_listed)
        metrics.failed(listener, upstream, host, _reason(record)).inc()
        _observe(self._histograms(listener, upstream, record.phases), record.phases)
        self._count_stall(listener, upstream, record)

    def _request_ended(self, record: Record) -> None:
        metrics = self.metrics
        listener, upstream = metrics.listener(record.listener), metrics.upstream(record.upstream)
        if record.error == TLSHandshakeFailed.__name__:
            metrics.tls_failed(listener).inc()
            return
        metrics.requests(listener, upstream, _status_class(record.status)).inc()
        if (answered := record.phases.get("answered")) is not None:
            metrics.responses(listener, upstream).observe(answered)
        self._count_octets(listener, upstream, record.octets_up, record.octets_down)
        self._count_stall(listener, upstream, record)

    def _host(self, name: str, is_listed: bool) -> str:
        """Return the value of the label for the host of a session, which is empty before it is known."""
        return self.metrics.host(name) if is_listed or not name else OTHER

    def _histograms(self, listener: str, upstream: str, phases: Mapping[str, float]) -> Histograms:
        """Return the histograms of the phases that a handshake has reached."""
        reached = [phase for phase in _PHASES if phase in phases]
        return [(phase, self.metrics.phases(listener, upstream, phase)) for phase in reached]

    def _count_octets(self, listener: str, upstream: str, up: int, down: int) -> None:
        if up > 0:
            self.metrics.octets(listener, upstream, "up").inc(up)
        if down > 0:
            self.metrics.octets(listener, upstream, "down").inc(down)

    def _count_round_trip(self, counted: _Counted, seconds: float | None) -> None:
        if seconds is not None and seconds != counted.round_trip:
            self.metrics.round_trip(counted.series.listener).observe(seconds)
            counted.round_trip = seconds

    def _count_stall(self, listener: str, upstream: str, record: Record) -> None:
        if record.timeout == "stall_timeout" or record.error == StallTimeout.__name__:
            self.metrics.stalls(listener, upstream).inc()


def _observe(histograms: Histograms, phases: Mapping[str, float]) -> None:
    """Count the duration of each phase of an opening handshake."""
    before = 0.0
    for phase, histogram in histograms:
        if (at := phases.get(phase)) is not None:
            histogram.observe(at - before)
            before = at


def _reason(record: Record) -> str:
    """Return the failure of a session, or the class of the code that closed it."""
    if record.error:
        return record.error if record.error in _ERRORS else OTHER
    code = record.close_code
    if code is not None and code >= 3000:
        return "application_code"
    return _CLOSES.get(code, "error_code")


def _status_class(status: int) -> str:
    """Return the class of an HTTP status; 0 is that of a request without an answer."""
    return f"{status // 100}xx" if 100 <= status < 600 else "none"

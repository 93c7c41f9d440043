"""The metrics of the proxy, in a registry of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from esxiproxy.core.redaction import redact_text

PREFIX = "esxiproxy_"
"""The beginning of the name of every metric."""
WORKER_LOST = "WorkerLost"
"""The reason of the end of consoles whose process has crashed, which is counted when its files are merged."""
OTHER = "other"
"""The value of a label in place of values that may have any number."""
MAX_VALUES: Mapping[str, int] = MappingProxyType({"listener": 1_000, "upstream": 1_000, "host": 10_000})
"""Maximum number of values of a label in one process.  Further values are counted as ``other``."""
MAX_LENGTH = 128
"""Maximum number of characters of a label's value."""
HANDSHAKE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, also of answers to HTTP requests."""
ROUND_TRIP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds."""
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds."""


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of a metric.

    The name has no prefix.  ``help`` has one sentence; it stands in the key of every value in a file, so it
    is short.
    """

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


OPEN = Family("sessions_open", Gauge, ("listener", "upstream", "host"), "Consoles that are open.")
OPENED = Family("sessions_opened_total", Counter, ("listener", "upstream"), "Consoles that were opened.")
CLOSED = Family(
    "sessions_closed_total", Counter, ("listener", "upstream", "reason"), "Consoles that were open and ended."
)
LOST = Family(
    "sessions_lost_total",
    Counter,
    ("listener", "upstream"),
    "Consoles of other proxies that died.",
)
FAILED = Family(
    "handshakes_failed_total",
    Counter,
    ("listener", "upstream", "host", "reason"),
    "Opening handshakes that failed or were refused.",
)
PHASES = Family(
    "handshake_seconds",
    Histogram,
    ("listener", "upstream", "phase"),
    "Duration of each phase of an opening handshake.",
    HANDSHAKE_BUCKETS,
)
OCTETS = Family("bytes_total", Counter, ("listener", "upstream", "direction"), "Bytes that were relayed.")
STALLS = Family(
    "stalls_total", Counter, ("listener", "upstream"), "Sessions that were ended by stall_timeout."
)
REFUSALS = Family(
    "refusals_total", Counter, ("limit",), "Refusals of sessions and connections under a limit."
)
REQUESTS = Family("http_requests_total", Counter, ("listener", "upstream", "code"), "Plain HTTP requests.")
RESPONSES = Family(
    "http_response_seconds",
    Histogram,
    ("listener", "upstream"),
    "Time from a plain HTTP request to the head of its answer.",
    HANDSHAKE_BUCKETS,
)
TLS_FAILED = Family(
    "tls_handshakes_failed_total", Counter, ("listener",), "TLS handshakes of clients that failed."
)
LAG = Family("event_loop_lag_seconds", Histogram, (), "Delay of a timer of the event loop.", LAG_BUCKETS)
ROUND_TRIP = Family(
    "round_trip_seconds",
    Histogram,
    ("listener",),
    "Round-trip time from the proxy to the client of a console.",
    ROUND_TRIP_BUCKETS,
)
FAMILIES = (
    *(OPEN, OPENED, CLOSED, LOST, FAILED, PHASES, OCTETS, STALLS, REFUSALS, REQUESTS, RESPONSES),
    *(TLS_FAILED, LAG, ROUND_TRIP),
)
"""All metrics that a process counts."""


class Labels:
    """The admitted values of one label, of which there is a bounded number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._admitted: dict[str, str] = {}

    def __call__(self, value: str) -> str:
        """Return the value of the label for a name: without secrets, and ``other`` if there are too many."""
        shown = self._admitted.get(value)
        if shown is None:
            if len(self._admitted) >= self._most:
                return OTHER
            shown = self._admitted[value] = label_value(value)
        return shown


def label_value(text: str) -> str:
    """Return a text as the value of a label: valid UTF-8 without secrets, of bounded length."""
    return redact_text(text[:MAX_LENGTH].encode("utf-8", "replace").decode("utf-8"))


M = TypeVar("M", Counter, Gauge, Histogram)


class Children(Generic[M]):
    """A metric whose children are cached by the values of their labels."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._cached: dict[tuple[str, ...], M] = {}

    def __call__(self, *values: str) -> M:
        """Return the child with these values of the labels, in their order."""
        child = self._cached.get(values)
        if child is None:
            child = self._cached[values] = self._metric.labels(*values) if values else self._metric
        return child


class Metrics:
    """The metrics of one process.

    ``registry`` is a registry of its own, which holds nothing else.  The values are stored in the class that
    prometheus_client uses at the time of creation: in memory, or in files that several processes share.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.listener = Labels(MAX_VALUES["listener"])
        self.upstream = Labels(MAX_VALUES["upstream"])
        self.host = Labels(MAX_VALUES["host"])
        self.open = self._gauge(OPEN)
        self.opened = self._counter(OPENED)
        self.closed = self._counter(CLOSED)
        self.lost = self._counter(LOST)
        self.failed = self._counter(FAILED)
        self.octets = self._counter(OCTETS)
        self.stalls = self._counter(STALLS)
        self.refusals = self._counter(REFUSALS)
        self.requests = self._counter(REQUESTS)
        self.tls_failed = self._counter(TLS_FAILED)
        self.phases = self._histogram(PHASES)
        self.responses = self._histogram(RESPONSES)
        self.round_trip = self._histogram(ROUND_TRIP)
        self.lag = self._histogram(LAG)

    def _counter(self, family: Family) -> Children[Counter]:
        return Children(Counter(PREFIX + family.name, family.help, family.labels, registry=self.registry))

    def _gauge(self, family: Family) -> Children[Gauge]:
        gauge = Gauge(
            PREFIX + family.name,
            family.help,
            family.labels,
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        return Children(gauge)

    def _histogram(self, family: Family) -> Children[Histogram]:
        histogram = Histogram(
            PREFIX + family.name, family.help, family.labels, registry=self.registry, buckets=family.buckets
        )
        return Children(histogram)

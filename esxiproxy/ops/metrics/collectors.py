"""Metrics that are computed when they are read: functions from plain values to metric families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Gauge, Metric
from prometheus_client.core import GaugeMetricFamily

from esxiproxy.ops.metrics.metrics import PREFIX, Family, label_value


@dataclass(frozen=True, slots=True)
class CertificateExpiry:
    """The certificate of a listener; ``not_after`` is in seconds since 1970."""

    listener: str
    not_after: float


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host that is configured or in an inventory.

    ``is_up`` is None for a host that is not checked.  ``connections`` are those of all processes, and
    ``limit`` is its ``max_connections``, None for no limit.
    """

    upstream: str
    host: str
    is_up: bool | None
    connections: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class DrainedTarget:
    """A part of the proxy that takes no new consoles.

    ``kind`` is ``proxy``, ``listener``, ``upstream`` or ``host``.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """The versions of the running program."""

    version: str
    python: str
    twisted: str


EXPIRY = Family(
    "certificate_expiry_timestamp_seconds",
    Gauge,
    ("listener",),
    "Time at which the certificate of a listener expires, in seconds since 1970.",
)
UP = Family("upstream_up", Gauge, ("upstream", "host"), "Whether a checked host is up (1) or down (0).")
CONNECTIONS = Family("upstream_connections", Gauge, ("upstream", "host"), "Connections to a host.")
LIMIT = Family(
    "upstream_connections_limit", Gauge, ("upstream", "host"), "Maximum number of connections to a host."
)
DRAINING = Family("draining", Gauge, ("kind", "name"), "Parts of the proxy that take no new consoles.")
WORKERS = Family("workers", Gauge, ("state",), "Number of worker processes.")
BUILD = Family("build_info", Gauge, ("version", "python", "twisted"), "Versions of the running program.")
COMPUTED = (EXPIRY, UP, CONNECTIONS, LIMIT, DRAINING, WORKERS, BUILD)
"""All metrics that are computed when they are read."""


def certificate_expiry(certificates: Iterable[CertificateExpiry]) -> Iterator[Metric]:
    """Yield the expiry of the certificates of listeners.

    A listener may be named as another one with the same long beginning, or as ``admin``, which is the label
    of [admin].  Then the certificate counts that expires first.
    """
    first: dict[str, float] = {}
    for certificate in certificates:
        label = label_value(certificate.listener)
        first[label] = min(certificate.not_after, first.get(label, certificate.not_after))
    family = _gauge(EXPIRY)
    for label, not_after in first.items():
        family.add_metric([label], not_after)
    yield family


def hosts(statuses: Iterable[HostStatus]) -> Iterator[Metric]:
    """Yield the health of hosts, and their connections beside the limit."""
    up, connections, limit = _gauge(UP), _gauge(CONNECTIONS), _gauge(LIMIT)
    shown = set()
    for status in statuses:
        values = [label_value(status.upstream), label_value(status.host)]
        if tuple(values) in shown:  # a second long name that begins as another one
            continue
        shown.add(tuple(values))
        if status.is_up is not None:
            up.add_metric(values, float(status.is_up))
        connections.add_metric(values, status.connections)
        if status.limit is not None:
            limit.add_metric(values, status.limit)
    yield from (up, connections, limit)


def draining(targets: Iterable[DrainedTarget]) -> Iterator[Metric]:
    """Yield a 1 for each part of the proxy that takes no new consoles."""
    family = _gauge(DRAINING)
    # Long names may have the same label.
    for kind, name in dict.fromkeys((target.kind, label_value(target.name)) for target in targets):
        family.add_metric([kind, name], 1)
    yield family


def workers(expected: int, running: int) -> Iterator[Metric]:
    """Yield the number of workers that are configured, and of those that run."""
    family = _gauge(WORKERS)
    family.add_metric(["configured"], expected)
    family.add_metric(["running"], running)
    yield family


def build_info(build: BuildInfo) -> Iterator[Metric]:
    """Yield a 1 whose labels are the versions of the program."""
    family = _gauge(BUILD)
    family.add_metric([build.version, build.python, build.twisted], 1)
    yield family


def _gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + family.name, family.help, labels=family.labels)

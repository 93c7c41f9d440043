"""Metrics that are computed when they are read: functions from plain values to metric families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from esxiproxy.ops.metrics.metrics import PREFIX, label_value


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


def certificate_expiry(certificates: Iterable[CertificateExpiry]) -> Iterator[Metric]:
    """Yield the expiry of the certificates of listeners."""
    family = _gauge(
        "certificate_expiry_timestamp_seconds",
        "Time at which the certificate of a listener expires, in seconds since 1970.",
        "listener",
    )
    for certificate in certificates:
        family.add_metric([label_value(certificate.listener)], certificate.not_after)
    yield family


def hosts(statuses: Iterable[HostStatus]) -> Iterator[Metric]:
    """Yield the health of hosts, and their connections beside the limit."""
    labels = "upstream", "host"
    up = _gauge("upstream_up", "Whether a checked host is up (1) or down (0).", *labels)
    connections = _gauge("upstream_connections", "Connections to a host.", *labels)
    limit = _gauge("upstream_connections_limit", "Maximum number of connections to a host.", *labels)
    for status in statuses:
        values = [label_value(status.upstream), label_value(status.host)]
        if status.is_up is not None:
            up.add_metric(values, float(status.is_up))
        connections.add_metric(values, status.connections)
        if status.limit is not None:
            limit.add_metric(values, status.limit)
    yield from (up, connections, limit)


def draining(targets: Iterable[DrainedTarget]) -> Iterator[Metric]:
    """Yield a 1 for each part of the proxy that takes no new consoles."""
    family = _gauge("draining", "Parts of the proxy that take no new consoles.", "kind", "name")
    for target in targets:
        family.add_metric([label_value(target.kind), label_value(target.name)], 1)
    yield family


def workers(expected: int, running: int) -> Iterator[Metric]:
    """Yield the number of workers that are configured, and of those that run."""
    family = _gauge("workers", "Number of worker processes.", "state")
    family.add_metric(["configured"], expected)
    family.add_metric(["running"], running)
    yield family


def build_info(build: BuildInfo) -> Iterator[Metric]:
    """Yield a 1 whose labels are the versions of the program."""
    family = _gauge("build_info", "Versions of the running program.", "version", "python", "twisted")
    family.add_metric([build.version, build.python, build.twisted], 1)
    yield family


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)

"""The metrics of all processes, with those that are computed when they are read."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

import twisted
from esxiproxy.admin.certificates import CertificateReader
from esxiproxy.admin.fresh_values import FreshValues
from esxiproxy.admin.hosts import HostRow
from esxiproxy.admin.live import Live, Processes
from esxiproxy.admin.probes import MetricsFailed
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.reports import ADMIN_SPACE, SCRAPED, SCRAPED_LIFE

if TYPE_CHECKING:
    from prometheus_client import Metric


Expose = Callable[[str, "list[Metric]"], Awaitable[tuple[str, bytes]]]
"""Returns the counted metrics for a value of Accept, with further metric families."""
_MARK_INTERVAL = 10.0
"""Seconds after which the mark that metrics are read is renewed."""


class AdminMetrics:
    """The answer to ``/metrics``.

    Each scrape renews a mark in the state, by which the processes count the bytes of running consoles.
    Scrapes of one format at the same time get one text, since the address of probes needs no login.
    """

    _log = Logger()

    def __init__(self, live: Live, expose: Expose) -> None:
        self._live = live
        self._expose = expose
        self._certificates = CertificateReader(live.control.in_thread, live.clock)
        self._marked_at = float("-inf")
        self._is_unavailable = False
        self._texts = FreshValues(self._collected_or_logged, live.clock)

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """Return the content type and the text of all metrics.  Raises MetricsFailed or TooManyWait."""
        from esxiproxy.ops.metrics.exposition import content_type_of  # prometheus-client is optional

        return await self._texts.get(content_type_of(accept))

    async def _collected_or_logged(self, accept: str) -> tuple[str, bytes]:
        try:
            return await self._collected(accept)
        except Exception:
            self._log.failure("the metrics could not be collected: the scrapes that wait for them get a 500")
            raise MetricsFailed from None

    async def _collected(self, accept: str) -> tuple[str, bytes]:
        families: list[Metric] = []
        try:
            await self._mark()
            families = [family async for family in self._computed()]
        except StateUnavailable as error:
            if not self._is_unavailable:
                self._log.warn(
                    "the shared state cannot be reached: until it is, scrapes have the counted metrics only: "
                    "{error}",
                    error=error,
                )
            self._is_unavailable = True
        else:
            self._is_unavailable = False
        return await self._expose(accept, families)

    async def _mark(self) -> None:
        now = self._live.clock.seconds()
        if now - self._marked_at >= _MARK_INTERVAL:
            expires = self._live.time_of_day() + SCRAPED_LIFE
            await self._live.control.state.put(ADMIN_SPACE, SCRAPED, "", expires)
            self._marked_at = now

    async def _computed(self) -> Any:
        """Yield the families that are computed at each scrape."""
        from esxiproxy.ops.metrics import collectors  # prometheus-client is an optional dependency

        live, processes = self._live, await self._live.processes()
        config = live.control.config
        build = collectors.BuildInfo(version("esxiproxy"), platform.python_version(), twisted.__version__)
        drained = [
            collectors.DrainedTarget(each.kind.value, each.name)
            for each in processes.drained.all
            if each.is_of(live.control.run)
        ]
        groups = (
            collectors.build_info(build),
            collectors.certificate_expiry([each async for each in self._expiries()]),
            collectors.hosts(_statuses(await live.configured_hosts())),
            collectors.draining(drained),
            collectors.workers(config.workers, _running(processes, live.control.run)),
        )
        for group in groups:
            for family in group:
                yield family

    async def _expiries(self) -> Any:
        from esxiproxy.ops.metrics.collectors import CertificateExpiry

        config = self._live.control.config
        admin = config.admin
        pairs = [(each.name, each.tls) for each in config.listeners]
        pairs += [("admin", admin.tls)] if admin is not None else []
        for name, tls in pairs:
            certificate = None if tls is None else await self._certificates.read(tls.certificate)
            if certificate is not None:
                yield CertificateExpiry(name, certificate.expires)


def _statuses(rows: Sequence[HostRow]) -> Iterator[Any]:
    """Yield the hosts that are configured or in an inventory; others may have any number of names."""
    from esxiproxy.ops.metrics.collectors import HostStatus

    for row in rows:
        if row.known.addresses:
            is_up = None if row.health == "unknown" else row.health == "up"
            yield HostStatus(row.known.upstream, row.known.name, is_up, row.connections or 0, row.known.limit)


def _running(processes: Processes, run: str) -> int:
    return sum(worker.run == run for worker in processes.workers)

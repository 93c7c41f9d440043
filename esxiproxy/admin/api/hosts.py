"""The operations ``list_hosts`` and ``list_upstreams``."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.hosts import HOST_TEXTS, HostRow
from esxiproxy.admin.known_hosts import limit_of, shown_address
from esxiproxy.admin.live import Live
from esxiproxy.admin.window import WindowRequest, page, window
from esxiproxy.core.routing import Destination, Upstream


class HostReads:
    """Lists the hosts, and the upstreams of the configuration in force."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def list_hosts(self, call: Call) -> dict[str, Any]:
        """Return a page of the hosts."""
        request = WindowRequest.of(call.parameters)
        found = window(await self._live.hosts(), HOST_TEXTS, request)
        return page("hosts", found, request, self._live.time_of_day())

    async def list_upstreams(self, call: Call) -> dict[str, Any]:
        """Return the upstreams in the order of the configuration."""
        own = {row.known.upstream: row for row in await self._live.hosts() if not row.known.router}
        upstreams = self._live.control.config.upstreams.values()
        return {"upstreams": [await self._shown(each, own.get(each.name)) for each in upstreams]}

    async def _shown(self, upstream: Upstream, row: HostRow | None) -> dict[str, Any]:
        failures, counts = await self._live.failures(), await self._live.session_counts()
        drained = (await self._live.processes()).drained
        addresses = Destination.of(upstream).addresses if upstream.host else ()
        verify = "pin" if upstream.identity.is_pinned else upstream.verify.value
        return {
            "name": upstream.name,
            "addresses": [shown_address(address) for address in addresses],
            "secure": upstream.secure,
            "verify": verify if upstream.secure else "none",
            "health": row.health if row is not None and upstream.host else "unknown",
            "sessions": counts.by_upstream[upstream.name],
            "connections": row.connections if row is not None and upstream.host else None,
            "limit": limit_of(upstream, self._live.control.config.connection_limits),
            "drained": drained.has_upstream(upstream.name),
            "failures": failures.by_upstream[upstream.name],
            "last_failure": failures.last_of_upstream.get(upstream.name),
        }

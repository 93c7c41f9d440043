"""The operation ``list_drains``, and drains as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.live import Live
from esxiproxy.core.session.drain import Drain


class DrainReads:
    """Lists the drains of all machines."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def list_drains(self, call: Call) -> dict[str, Any]:
        """Return all drains."""
        return {"drains": await self.shown((await self._live.processes()).drained.all)}

    async def shown(self, drains: Iterable[Drain]) -> list[dict[str, Any]]:
        """Return these drains as the API lists them, with the consoles that still run there."""
        counts = await self._live.session_counts()
        return [
            {
                "kind": drain.kind.value,
                "name": drain.name,
                "machine": drain.machine,
                "since": max(0.0, drain.since),
                "end": None if drain.end == inf else max(0.0, drain.end),
                "by": drain.by,
                "reason": drain.reason,
                "sessions": counts.covered_by(drain),
            }
            for drain in drains
        ]

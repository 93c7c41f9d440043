"""The operations about everything together: ``status`` and ``history``."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.live import Live


class OverviewReads:
    """Returns what runs in a few numbers, now and in the last hour."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def status(self, call: Call) -> dict[str, Any]:
        """Return what runs now."""
        return {**await self._live.status(), **call.actor.shown()}

    async def history(self, call: Call) -> dict[str, Any]:
        """Return the points of the last hour."""
        history = self._live.history
        return {"interval": history.interval, "points": history.points}

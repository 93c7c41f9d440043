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
        """Return what runs now, and who asks."""
        role = call.actor.role
        assert role is not None  # an operation is called by a user with rights
        return {**await self._live.status(), "user": call.actor.name, "role": role.value}

    async def history(self, call: Call) -> dict[str, Any]:
        """Return the points of the last hour."""
        history = self._live.history
        return {"interval": history.interval, "points": history.points}

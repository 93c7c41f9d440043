"""The operation ``list_failures``."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.failures import FAILURE_TEXTS
from esxiproxy.admin.live import Live
from esxiproxy.admin.window import WindowRequest, page, window


class FailureReads:
    """Lists the newest failures of all processes."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def list_failures(self, call: Call) -> dict[str, Any]:
        """Return a page of the newest failures."""
        request = WindowRequest.of(call.parameters)
        found = window((await self._live.failures()).rows, FAILURE_TEXTS, request)
        return page("failures", found, request, self._live.time_of_day())

"""The operations on open consoles that read: ``list_sessions`` and ``show_session``."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import ApiError, Call
from esxiproxy.admin.live import Live
from esxiproxy.admin.session_list import SESSION_TEXTS
from esxiproxy.admin.window import WindowRequest, page, window
from esxiproxy.core.session.command import Selector, SelectorKind

_EXACT = {
    "principal": SelectorKind.PRINCIPAL,
    "host": SelectorKind.HOST,
    "upstream": SelectorKind.UPSTREAM,
    "listener": SelectorKind.LISTENER,
    "link": SelectorKind.LINK,
}


class SessionReads:
    """Lists the open consoles of all workers and machines."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def list_sessions(self, call: Call) -> dict[str, Any]:
        """Return a page of the open consoles."""
        rows = (await self._live.sessions()).rows
        given = call.parameters
        selectors = [Selector(kind, given[name]) for name, kind in _EXACT.items() if given.get(name)]
        total = len(rows)
        if selectors:
            rows = [row for row in rows if all(selector.lists(row.entry) for selector in selectors)]
        request = WindowRequest.of(given)
        found = window(rows, SESSION_TEXTS, request)
        return {**page("sessions", found, request, self._live.time_of_day()), "total": total}

    async def show_session(self, call: Call) -> dict[str, Any]:
        """Return one open console.  Raises ApiError."""
        found = (await self._live.sessions()).find(call.parameters["id"])
        if found is None:
            raise ApiError(404, "no open console has this id: it has ended, or never was one")
        return found.fields(self._live.time_of_day())

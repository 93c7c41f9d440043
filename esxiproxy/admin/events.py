"""The event stream of the admin page: the status, and the changes of one window of a list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esxiproxy.admin.call import Actor, ApiError
from esxiproxy.admin.failures import FAILURE_TEXTS
from esxiproxy.admin.hosts import HOST_TEXTS
from esxiproxy.admin.live import Live
from esxiproxy.admin.openapi.operations import FAILURE_COLUMNS, HOST_COLUMNS, SESSION_COLUMNS
from esxiproxy.admin.session_list import SESSION_TEXTS
from esxiproxy.admin.window import Listed, WindowRequest, window
from esxiproxy.admin.window_events import WindowEvents

_IDLE_STEP = 0.1
"""Part by which the idle time of a console grows before it is sent again, if nothing else has changed."""


@dataclass(frozen=True, slots=True)
class View:
    """A list that can be watched: how its rows are read, its columns, and those of its texts."""

    read: Callable[[], Awaitable[Sequence[Listed]]]
    columns: tuple[str, ...]
    texts: frozenset[str]


def views(live: Live) -> Mapping[str, View]:
    """Return the lists by their names."""

    async def sessions() -> Sequence[Listed]:
        return (await live.sessions()).rows

    async def failures() -> Sequence[Listed]:
        return (await live.failures()).rows

    return {
        "sessions": View(sessions, SESSION_COLUMNS, SESSION_TEXTS),
        "hosts": View(live.hosts, HOST_COLUMNS, HOST_TEXTS),
        "failures": View(failures, FAILURE_COLUMNS, FAILURE_TEXTS),
    }


class EventStream(WindowEvents):
    """The status of the proxies, and one window of a list.  Raises ApiError."""

    def __init__(self, live: Live, actor: Actor, view: str, request: WindowRequest) -> None:
        self._live = live
        self._actor = actor.shown()
        self._name = view
        self._view = found = views(live)[view]
        if request.sort and request.sort not in found.columns:
            raise ApiError(404, f"sort: the list {view} has the columns {', '.join(found.columns)}")
        super().__init__(request if request.sort else request.sorted_by(found.columns[0]), live.clock)

    async def look(self) -> bytes:
        """Return the events for what has changed.  Raises StateUnavailable."""
        rows = await self._view.read()
        status = {**await self._live.status(), **self._actor}
        await self._live.turns.take()  # all streams get the rows at the same moment
        found = window(rows, self._view.texts, self._request)
        return self.status_event(status) + self.window_event(found, self._live.time_of_day(), view=self._name)

    def is_changed(self, row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
        """Return whether a row is worth an event.  Age and idle time alone are no change."""
        return any(
            value != before[name] and not _is_passing(name, value, before[name])
            for name, value in row.items()
        )


def _is_passing(name: str, value: Any, before: Any) -> bool:
    if name != "idle" or value is None or before is None:
        return name == "age"
    return bool(before <= value <= before * (1 + _IDLE_STEP))


def open_stream(live: Live, actor: Actor, parameters: Mapping[str, Any]) -> EventStream:
    """Return the stream for the checked parameters of the operation ``events``.  Raises ApiError."""
    return EventStream(live, actor, parameters["view"], WindowRequest.of({"sort": "", **parameters}))

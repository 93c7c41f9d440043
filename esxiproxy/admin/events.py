"""The event stream: the status, and the changes of one window of a list, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from esxiproxy.admin.call import Actor, ApiError
from esxiproxy.admin.failures import FAILURE_TEXTS
from esxiproxy.admin.hosts import HOST_TEXTS
from esxiproxy.admin.live import Live
from esxiproxy.admin.openapi.operations import FAILURE_COLUMNS, HOST_COLUMNS, SESSION_COLUMNS
from esxiproxy.admin.session_list import SESSION_TEXTS
from esxiproxy.admin.window import Listed, WindowRequest, window
from esxiproxy.core.errors import StateUnavailable

TICK = 1.0
"""Seconds between two looks."""
PING = 15.0
"""Seconds without an event after which one is sent that shows that the connection lives."""
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


class EventStream:
    """The events of one reader, each made of the difference to what this reader has got already.

    A reader that is slow asks less often, and gets the differences to its last events.  Raises ApiError.
    """

    def __init__(self, live: Live, actor: Actor, view: str, request: WindowRequest) -> None:
        self._live = live
        self._actor = actor.shown()
        self._name = view
        self._view = found = views(live)[view]
        if request.sort and request.sort not in found.columns:
            raise ApiError(404, f"sort: the list {view} has the columns {', '.join(found.columns)}")
        self._request = request if request.sort else request.sorted_by(found.columns[0])
        self._status: Mapping[str, Any] | None = None
        self._sent: Mapping[str, Mapping[str, Any]] = {}
        self._frame: tuple[Any, ...] | None = None
        self._looked_at: float | None = None
        self._sent_at = live.clock.seconds()
        self._waiting: Deferred[Any] | None = None
        self._has_ended = False

    def next(self) -> Deferred[bytes]:
        """Return the next events, as soon as there are some.  Fails with CancelledError after ``close``."""
        self._waiting = waiting = Deferred.fromCoroutine(self._next())
        return waiting

    def close(self) -> None:
        """End the stream."""
        self._has_ended = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _next(self) -> bytes:
        clock = self._live.clock
        if self._has_ended:
            raise CancelledError
        if self._looked_at is None:
            self._looked_at = clock.seconds()
            return b"retry: 2000\n\n" + await self._look()
        while True:
            # At least a turn of the reactor later, so that one stream does not keep the others waiting.
            await deferLater(clock, max(0.0, self._looked_at + TICK - clock.seconds()))
            self._looked_at = clock.seconds()
            events = await self._look()
            if not events and clock.seconds() - self._sent_at >= PING:
                events = b"event: ping\ndata: {}\n\n"
            if events:
                self._sent_at = clock.seconds()
                return events

    async def _look(self) -> bytes:
        """Return the events for what has changed; nothing while the state cannot be reached."""
        try:
            rows = await self._view.read()
            status = {**await self._live.status(), **self._actor}
        except StateUnavailable:
            return b""
        return self._status_event(status) + self._window_event(rows)

    def _status_event(self, status: Mapping[str, Any]) -> bytes:
        lasting = {name: value for name, value in status.items() if name != "now"}
        if lasting == self._status:
            return b""
        self._status = lasting
        return _event("status", status)

    def _window_event(self, rows: Sequence[Listed]) -> bytes:
        found = window(rows, self._view.texts, self._request)
        now = self._live.time_of_day()
        shown = {row.key: row.fields(now) for row in found.rows}
        changed = {key: row for key, row in shown.items() if _differs(row, self._sent.get(key))}
        frame = (found.total, found.matching, tuple(shown))
        if not changed and frame == self._frame:
            return b""
        self._sent = {key: changed.get(key) or self._sent[key] for key in shown}
        self._frame = frame
        content = {
            "view": self._name,
            "total": found.total,
            "matching": found.matching,
            "offset": self._request.offset,
            "order": list(shown),
            "changed": changed,
        }
        return _event("window", content)


def _differs(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Return whether a row is worth an event.  Its age grows by itself, and so does its idle time."""
    return before is None or any(
        value != before[name] and not _is_passing(name, value, before[name]) for name, value in row.items()
    )


def _is_passing(name: str, value: Any, before: Any) -> bool:
    if name != "idle" or value is None or before is None:
        return name == "age"
    return bool(before <= value <= before * (1 + _IDLE_STEP))


def _event(name: str, content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":"))  # in ASCII, without line breaks
    return f"event: {name}\ndata: {text}\n\n".encode("ascii")


def open_stream(live: Live, actor: Actor, parameters: Mapping[str, Any]) -> EventStream:
    """Return the stream for the checked parameters of the operation ``events``.  Raises ApiError."""
    return EventStream(live, actor, parameters["view"], WindowRequest.of({"sort": "", **parameters}))

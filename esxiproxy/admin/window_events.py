"""The events of one reader of a page: a status, and the changes of one window, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from esxiproxy.admin.window import Listed, Window, WindowRequest
from esxiproxy.core.errors import StateUnavailable

TICK = 1.0
"""Seconds between two looks."""
PING = 15.0
"""Seconds without an event after which one is sent that shows that the connection lives."""

UNAVAILABLE = "The shared state cannot be reached."
"""The sentence for readers while nothing can be read."""

Row = Mapping[str, Any]


class WindowEvents:
    """The events of one reader, each made of the difference to what this reader has got already.

    A reader that is slow asks less often, and gets the differences to its last events.  A subclass says in
    ``look`` what there is to see.
    """

    def __init__(self, request: WindowRequest, clock: IReactorTime) -> None:
        self._request = request
        self._clock = clock
        self._status: Mapping[str, Any] | None = None
        self._sent: Mapping[str, Row] = {}
        self._frame: tuple[Any, ...] | None = None
        self._looked_at: float | None = None
        self._sent_at = clock.seconds()
        self._is_unavailable = False
        """Whether the last look has failed, since the state could not be reached."""
        self._waiting: Deferred[Any] | None = None
        self._has_ended = False

    async def look(self) -> bytes:
        """Return the events for what has changed.  It may raise StateUnavailable, and is asked again then."""
        raise NotImplementedError

    def is_changed(self, row: Row, before: Row) -> bool:
        """Return whether a row is worth an event, after it was sent before."""
        return row != before

    def next(self) -> Deferred[bytes]:
        """Return the next events, as soon as there are some.  Fails with CancelledError after ``close``."""
        self._waiting = waiting = Deferred.fromCoroutine(self._next())
        return waiting

    def close(self) -> None:
        """End the stream."""
        self._has_ended = True
        if self._waiting is not None:
            self._waiting.cancel()

    def status_event(self, status: Mapping[str, Any]) -> bytes:
        """Return the event of a status; nothing if no more than its time of day, ``now``, has changed."""
        lasting = {name: value for name, value in status.items() if name != "now"}
        if lasting == self._status:
            return b""
        self._status = lasting
        return _event("status", status)

    def window_event(self, found: Window[Listed], now: float, **more: Any) -> bytes:
        """Return the event of a window at this time of day, nothing if it has not changed.

        The event also has the fields in ``more``.
        """
        shown = {row.key: row.fields(now) for row in found.rows}
        sent = self._sent
        changed = {
            key: row for key, row in shown.items() if key not in sent or self.is_changed(row, sent[key])
        }
        frame = (found.total, found.matching, tuple(shown))
        if not changed and frame == self._frame:
            return b""
        self._sent = {key: changed.get(key) or sent[key] for key in shown}
        self._frame = frame
        content = {
            **more,
            "total": found.total,
            "matching": found.matching,
            "offset": self._request.offset,
            "order": list(shown),
            "changed": changed,
        }
        return _event("window", content)

    async def _next(self) -> bytes:
        clock = self._clock
        if self._has_ended:
            raise CancelledError
        if self._looked_at is None:
            self._looked_at = clock.seconds()
            return b"retry: 2000\n\n" + await self._read_events()
        while True:
            # At least a turn of the reactor later, so that one stream does not keep the others waiting.
            await deferLater(clock, max(0.0, self._looked_at + TICK - clock.seconds()))
            self._looked_at = clock.seconds()
            events = await self._read_events()
            if not events and clock.seconds() - self._sent_at >= PING:
                events = _UNAVAILABLE_EVENT if self._is_unavailable else _PING_EVENT
            if events:
                self._sent_at = clock.seconds()
                return events

    async def _read_events(self) -> bytes:
        """Return the events for what has changed, also if that is whether anything can be read."""
        was_unavailable = self._is_unavailable
        try:
            events = await self.look()
        except StateUnavailable:
            self._is_unavailable = True
            return b"" if was_unavailable else _UNAVAILABLE_EVENT
        self._is_unavailable = False
        return events or (_PING_EVENT if was_unavailable else b"")


def _event(name: str, content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":"))  # in ASCII, without line breaks
    return f"event: {name}\ndata: {text}\n\n".encode("ascii")


_PING_EVENT = _event("ping", {})
_UNAVAILABLE_EVENT = _event("unavailable", {"error": UNAVAILABLE})

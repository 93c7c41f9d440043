"""The event stream of the portal: the user, the vCenters, and the changes of one window of the machines."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from esxiproxy.admin.window import WindowRequest, window
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.portal.machine_rows import COLUMNS, MachineView

TICK = 1.0
"""Seconds between two looks."""
PING = 15.0
"""Seconds without an event after which one is sent that shows that the connection lives."""


class MachineEvents:
    """The events of one reader, each made of the difference to what this reader has got already.

    ``view`` returns the rows of the user, and ``status`` the facts beside them.  A reader that is slow asks
    less often.  While nothing changes, a look costs nothing that depends on the number of machines.
    """

    def __init__(
        self,
        view: Callable[[], Awaitable[MachineView]],
        status: Callable[[], Mapping[str, Any]],
        request: WindowRequest,
        only_favourites: bool,
        clock: IReactorTime,
    ) -> None:
        self._view = view
        self._status = status
        self._request = request
        self._only_favourites = only_favourites
        self._clock = clock
        self._seen: tuple[MachineView, object] | None = None
        self._sent_status: Mapping[str, Any] | None = None
        self._sent: Mapping[str, Any] = {}
        self._frame: tuple[Any, ...] | None = None
        self._looked_at: float | None = None
        self._sent_at = clock.seconds()
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
        if self._has_ended:
            raise CancelledError
        clock = self._clock
        if self._looked_at is None:
            self._looked_at = clock.seconds()
            return b"retry: 2000\n\n" + await self._look()
        while True:
            await deferLater(clock, max(0.0, self._looked_at + TICK - clock.seconds()))
            self._looked_at = clock.seconds()
            events = await self._look()
            if not events and clock.seconds() - self._sent_at >= PING:
                events = b"event: ping\ndata: {}\n\n"
            if events:
                self._sent_at = clock.seconds()
                return events

    async def _look(self) -> bytes:
        try:
            view = await self._view()
        except StateUnavailable:
            return b""
        events = b""
        if (status := self._status()) != self._sent_status:
            self._sent_status = status
            events = _event("status", status)
        if self._seen != (view, view.version):
            self._seen = view, view.version
            events += self._window_event(view)
        return events

    def _window_event(self, view: MachineView) -> bytes:
        found = window(chosen(view, self._only_favourites), COLUMNS, self._request)
        shown = {row.key: row.fields(0.0) for row in found.rows}
        changed = {key: row for key, row in shown.items() if row != self._sent.get(key)}
        frame = (found.total, found.matching, tuple(shown))
        if not changed and frame == self._frame:
            return b""
        self._sent, self._frame = shown, frame
        content = {
            "total": found.total,
            "matching": found.matching,
            "offset": self._request.offset,
            "order": list(shown),
            "changed": changed,
        }
        return _event("window", content)


def chosen(view: MachineView, only_favourites: bool) -> Sequence[Any]:
    """Return the rows of a view, or its favourites alone."""
    return [row for row in view.rows if row.is_favourite] if only_favourites else view.rows


def _event(name: str, content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":"))  # in ASCII, without line breaks
    return f"event: {name}\ndata: {text}\n\n".encode("ascii")

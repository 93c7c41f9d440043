"""The event stream of the portal: the user, the vCenters, and the changes of one window of the machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from esxiproxy.admin.window import WindowRequest, window
from esxiproxy.admin.window_events import WindowEvents
from esxiproxy.portal.machine_rows import COLUMNS, MachineView


class MachineEvents(WindowEvents):
    """The status of a user, and one window of the machines.

    ``view`` returns the rows of the user, and ``status`` the facts beside them.  While nothing changes, the
    cost of a look does not depend on the number of machines.
    """

    def __init__(
        self,
        view: Callable[[], Awaitable[MachineView]],
        status: Callable[[], Mapping[str, Any]],
        request: WindowRequest,
        only_favourites: bool,
        clock: IReactorTime,
    ) -> None:
        super().__init__(request, clock)
        self._read = view
        self._read_status = status
        self._only_favourites = only_favourites
        self._seen: tuple[MachineView, object] | None = None

    async def look(self) -> bytes:
        """Return the events for what has changed.  Raises StateUnavailable."""
        view = await self._read()
        events = self.status_event(self._read_status())
        if self._seen != (view, view.version):
            self._seen = view, view.version
            found = window(chosen(view, self._only_favourites), COLUMNS, self._request)
            events += self.window_event(found, 0.0)
        return events


def chosen(view: MachineView, only_favourites: bool) -> Sequence[Any]:
    """Return the rows of a view, or its favourites alone."""
    return [row for row in view.rows if row.is_favourite] if only_favourites else view.rows

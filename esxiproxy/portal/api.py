"""The API of the portal: the machines of a user, what may be done with them, and links for other portals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.admin.window import WindowRequest, page, window
from esxiproxy.authenticators.loggable import loggable
from esxiproxy.core.recent_keys import RecentKeys
from esxiproxy.core.routing import Principal
from esxiproxy.portal.arrival import PortalAnswer, PortalArrival, PortalError
from esxiproxy.portal.favourites import MOST, Favourites, TooManyFavourites
from esxiproxy.portal.machine_events import MachineEvents, chosen
from esxiproxy.portal.machine_rows import COLUMNS, Catalogue, MachineRow, MachineView
from esxiproxy.portal.machine_service import DISCONNECT, OPEN, POWER, IsFull, MintLink
from esxiproxy.portal.thumbnails import Thumbnails
from esxiproxy.vsphere.service import VSphereService

MAX_LIMIT = 200
"""Machines on one page."""
MAX_SEARCH = 200
"""Characters of a search."""
DROPPED_TIME = 15.0
"""Seconds for which the pages of consoles are told that consoles of their machine were ended."""
MAX_CALLS_EACH = 4
"""Requests of one user that wait for vCenter at once, apart from pictures, which have their own queue."""
_MAX_LABELS = 64
_NAME, _UUID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", r"[0-9A-Za-z-]{1,64}"
_MACHINE = re.compile(rf"/api/machines/({_NAME}/{_UUID})(?:/([a-z]+))?")
_WINDOW = frozenset({"search", "offset", "limit", "favourites"})

Action = Callable[[PortalArrival, MachineView, MachineRow], Awaitable[PortalAnswer]]
Operation = tuple[Action, tuple[str, ...]]
"""An action, and the rights of which its user needs one; none for a machine that the user sees."""


class PortalApi:
    """The operations on machines.  Each checks the rights of the user again."""

    _log = Logger()

    def __init__(
        self,
        service: VSphereService,
        catalogue: Catalogue,
        favourites: Favourites,
        mint: MintLink | None,
        clock: IReactorTime,
        is_full: IsFull | None = None,
    ) -> None:
        self._service = service
        self._catalogue = catalogue
        self._favourites = favourites
        self._mint = mint
        self._clock = clock
        self._is_full = is_full
        self._waiting: Counter[str] = Counter()
        """The requests that wait for vCenter, by their users."""
        self._dropped = RecentKeys(DROPPED_TIME, clock.seconds)
        """The machines whose consoles were ended."""
        self._thumbnails = Thumbnails(lambda machine: service.thumbnail(machine), clock)
        self._reads: Mapping[str | None, Operation] = {
            None: (self._machine, ()),
            "connections": (self._connections, (OPEN, DISCONNECT)),
            "thumbnail": (self._thumbnail, (OPEN,)),
        }
        self._actions: Mapping[str | None, Operation] = {
            "power": (self._power_on, (POWER,)),
            "drop": (self._drop, (DISCONNECT,)),
            "favourite": (self._favourite, ()),
            "resolution": (self._resolution, (OPEN,)),
        }

    async def answer(self, arrival: PortalArrival) -> PortalAnswer:
        """Return the answer to a request for the API.  Raises PortalError or a SessionError."""
        principal, is_read = arrival.principal, arrival.method in (b"GET", b"HEAD")
        if arrival.path == "/api/machines":
            _check_method(arrival, b"GET")
            return await self._machines(arrival, principal)
        if arrival.path == "/api/find":
            _check_method(arrival, b"GET")
            row = self._named(
                arrival, await self._view(arrival, principal), arrival.parameters().get("vm", "")
            )
            return PortalAnswer.of(row.fields(0.0))
        if arrival.path == "/api/consoles":
            _check_method(arrival, b"POST")
            return await self._make_link(arrival, principal)
        found = _MACHINE.fullmatch(arrival.path)
        if found is None:
            raise PortalError(404, "there is no such path")
        operations = self._reads if is_read else self._actions
        operation = operations.get(found[2])
        if operation is None:
            if found[2] not in {*self._reads, *self._actions}:
                raise PortalError(404, "there is no such path")
            _check_method(arrival, b"POST" if is_read else b"GET")
        if not is_read:
            _check_method(arrival, b"POST")
            arrival.check_own_page()
        assert operation is not None
        action, rights = operation
        view = await self._view(arrival, principal)
        row = self._row(arrival, view, found[1])
        if rights and row.rights.isdisjoint(rights):
            text = f"no access rule gives this user the right {' or '.join(rights)} to this machine"
            raise PortalError(403, text)
        return await action(arrival, view, row)

    async def events(self, arrival: PortalArrival) -> MachineEvents:
        """Return the event stream of a window.  Raises PortalError or StateUnavailable."""
        _check_method(arrival, b"GET")
        principal = arrival.principal
        request, only_favourites = _window_of(arrival.parameters())
        await self._view(arrival, principal)

        async def view() -> MachineView:
            return await self._view(arrival, principal)

        def status() -> Mapping[str, Any]:
            return self._status(arrival, principal)

        return MachineEvents(view, status, request, only_favourites, self._clock)

    async def _view(self, arrival: PortalArrival, principal: Principal) -> MachineView:
        favourites = await self._favourites.of(principal)
        return self._catalogue.view(arrival.listener.name, principal, favourites)

    def _status(self, arrival: PortalArrival, principal: Principal) -> Mapping[str, Any]:
        return {
            "user": principal.name,
            "logout": bool(arrival.visitor.login),
            "vspheres": len(self._catalogue.inventories(arrival.listener.name)),
            "problems": list(self._catalogue.problems(arrival.listener.name)),
        }

    async def _machines(self, arrival: PortalArrival, principal: Principal) -> PortalAnswer:
        request, only_favourites = _window_of(arrival.parameters())
        view = await self._view(arrival, principal)
        found = window(chosen(view, only_favourites), COLUMNS, request)
        return PortalAnswer.of({**page("machines", found, request, 0.0), **self._status(arrival, principal)})

    async def _machine(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        is_full = self._is_full is not None and await self._is_full(arrival.listener.name, row.machine)
        return PortalAnswer.of({**row.fields(0.0), "full": is_full, "dropped": row.key in self._dropped})

    async def _connections(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        found = await self._call(arrival, self._service.connections, row.machine)
        people = [
            {"label": str(each.label), "client": str(each.client), "user": str(each.user)} for each in found
        ]
        return PortalAnswer.of({"connections": people})

    async def _thumbnail(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        if row.machine.power.value != "on":
            return PortalAnswer(204, "text/plain; charset=utf-8", b"")
        picture = await self._thumbnails.get(row.machine)
        return PortalAnswer(200, "image/png", picture)

    async def _power_on(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        arrival.json()
        self._report("powers on", arrival, row)
        await self._call(arrival, self._service.power_on, row.machine)
        return PortalAnswer.of({}, 202)

    async def _drop(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        labels = arrival.json().get("labels")
        if not isinstance(labels, list) or not 0 < len(labels) <= _MAX_LABELS:
            raise PortalError(400, f"labels has to be a list of 1 to {_MAX_LABELS} labels")
        if not all(isinstance(label, str) and 0 < len(label) <= 256 for label in labels):
            raise PortalError(400, "a label is a text")
        self._report(f"ends {len(labels)} consoles of", arrival, row)
        is_first = row.key not in self._dropped
        self._dropped.add(row.key)  # a page may lose its console before the answer
        try:
            await self._call(arrival, self._service.drop_connections, row.machine, labels)
        except Exception:
            if is_first:
                self._dropped.discard(row.key)
            raise
        return PortalAnswer.of({}, 202)

    async def _favourite(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        wanted = arrival.json().get("favourite")
        if not isinstance(wanted, bool):
            raise PortalError(400, "favourite has to be true or false")
        try:
            view.set_favourites(await self._favourites.set(arrival.principal, row.key, wanted))
        except TooManyFavourites:
            raise PortalError(409, f"there are {MOST} favourites already: remove one before") from None
        return PortalAnswer.of({"favourite": wanted})

    async def _resolution(self, arrival: PortalArrival, view: MachineView, row: MachineRow) -> PortalAnswer:
        body = arrival.json()
        width, height = body.get("width"), body.get("height")
        if not all(type(each) is int and 320 <= each <= 8192 for each in (width, height)):
            raise PortalError(400, "width and height have to be numbers of pixels from 320 to 8192")
        assert isinstance(width, int) and isinstance(height, int)
        await self._call(arrival, self._service.set_resolution, row.machine, width, height)
        return PortalAnswer.of({}, 202)

    async def _make_link(self, arrival: PortalArrival, principal: Principal) -> PortalAnswer:
        """Return a link that opens a console once, for the portals of others."""
        arrival.check_own_page()
        body = arrival.json()
        wanted = body.get("vm")
        if set(body) != {"vm"} or not isinstance(wanted, str) or not 0 < len(wanted) <= 256:
            raise PortalError(400, 'the body has to be {"vm": "VSPHERE/UUID"}, with a UUID or a name as well')
        row = self._named(arrival, await self._view(arrival, principal), wanted)
        if self._mint is None:
            raise PortalError(404, "no router here opens such links: add a router of the type vsphere")
        link = await self._mint(row.machine, principal, arrival.listener.public_url)
        return PortalAnswer.of({"url": link.url, "expires": link.expires, "vm": row.key}, 201)

    def _row(self, arrival: PortalArrival, view: MachineView, machine: str) -> MachineRow:
        """Return the row of a machine.

        Raises PortalError, the same for a machine without a right and for one that does not exist.
        """
        row = view.find(_with_small_uuid(machine))
        if row is None:
            raise self._not_found(arrival, machine)
        return row

    def _named(self, arrival: PortalArrival, view: MachineView, wanted: str) -> MachineRow:
        """Return the machine that a text names: ``VSPHERE/UUID``, a UUID or a name.  Raises PortalError."""
        if "/" in wanted and (row := view.find(_with_small_uuid(wanted))):
            found: Sequence[MachineRow] = [row]
        else:
            lower = wanted.lower()
            found = [row for row in view.rows if lower == row.machine.uuid or wanted == row.machine.name]
        able = [row for row in found if OPEN in row.rights]
        if len(able) > 1:
            raise PortalError(
                409, f"{len(able)} machines have this name or UUID: ask for one as VSPHERE/UUID"
            )
        if not able:
            raise self._not_found(arrival, wanted)
        return able[0]

    def _not_found(self, arrival: PortalArrival, wanted: str) -> PortalError:
        """Return the error for a machine that does not exist, that is hidden, or that is not known yet."""
        unread = self._catalogue.unread(arrival.listener.name, wanted)
        if unread is None:
            return PortalError(404, "there is no such machine, or this user may not use it")
        text = f"the machines of {unread} have not been read yet: try again in a moment"
        return PortalError(503, text, ((b"Retry-After", b"3"),))

    async def _call(self, arrival: PortalArrival, call: Callable[..., Awaitable[Any]], *values: Any) -> Any:
        """Return the result of a call to vCenter.  Raises PortalError for a user with too many."""
        user = arrival.principal.names[1]
        if self._waiting[user] >= MAX_CALLS_EACH:
            text = f"{MAX_CALLS_EACH} requests of this user wait for vCenter already: try again in a moment"
            raise PortalError(429, text, ((b"Retry-After", b"2"),))
        self._waiting[user] += 1
        try:
            return await call(*values)
        finally:
            self._waiting[user] -= 1
            if not self._waiting[user]:
                del self._waiting[user]

    def _report(self, action: str, arrival: PortalArrival, row: MachineRow) -> None:
        self._log.info(
            "portal: {user} {action} {machine} ({name}) from {client}",
            user=loggable(arrival.principal.names[1]),
            action=action,
            machine=row.key,
            name=loggable(row.machine.name),
            client=arrival.visitor.client,
        )


def _check_method(arrival: PortalArrival, method: bytes) -> None:
    if arrival.method != method and not (method == b"GET" and arrival.method == b"HEAD"):
        raise PortalError(405, f"this path takes {method.decode()}", ((b"Allow", method),))


def _with_small_uuid(machine: str) -> str:
    """Return ``SECTION/UUID`` with the UUID in lower case, as machines have it."""
    section, _, uuid = machine.partition("/")
    return f"{section}/{uuid.lower()}"


def _window_of(parameters: Mapping[str, str]) -> tuple[WindowRequest, bool]:
    if unknown := set(parameters) - _WINDOW:
        known = ", ".join(sorted(_WINDOW))
        raise PortalError(400, f"{len(unknown)} parameters are unknown: there are {known}")
    search = parameters.get("search", "")
    if len(search) > MAX_SEARCH:
        raise PortalError(400, f"a search has at most {MAX_SEARCH} characters")
    offset, limit = (
        _whole(parameters, name, most, default)
        for name, most, default in (("offset", 10_000_000, 0), ("limit", MAX_LIMIT, 50))
    )
    request = WindowRequest(filter=search, offset=offset, limit=max(1, limit))
    return request, parameters.get("favourites") == "1"


def _whole(parameters: Mapping[str, str], name: str, most: int, default: int) -> int:
    text = parameters.get(name, str(default))
    if not re.fullmatch("[0-9]{1,8}", text) or int(text) > most:
        raise PortalError(400, f"{name} has to be a number of at most {most}")
    return int(text)

"""The machines that a user may see, in the order in which they are listed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from esxiproxy.core.routing import Principal
from esxiproxy.portal.machine_service import Rights, Scope, VSpheres
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine
from esxiproxy.vsphere.service import VSphereService

MAX_VIEWS = 64
"""Users without an event stream whose lists are kept."""
COLUMNS = frozenset({"name", "folder", "power", "vsphere", "tag"})
"""The columns that a word of a search may name, as in ``power:on``."""


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine with the rights of one user.  ``words`` are its texts, which a search compares."""

    machine: Machine
    rights: frozenset[str]
    words: str
    is_favourite: bool = False

    @property
    def place(self) -> tuple[bool, str, str]:
        """The key by which rows are sorted: favourites first, then by name."""
        return not self.is_favourite, self.machine.name.casefold(), self.key

    @property
    def key(self) -> str:
        """The id of the machine."""
        return self.machine.id

    def is_shown_like(self, other: MachineRow) -> bool:
        """Return whether a user sees no difference, and a search finds none."""
        return self.words == other.words and self.fields(0.0) == other.fields(0.0)

    def column(self, name: str) -> Any:
        """Return the text of a column."""
        machine = self.machine
        if name == "tag":
            return "\n".join(sorted(machine.tags))
        return machine.power.value if name == "power" else getattr(machine, name)

    def fields(self, now: float) -> dict[str, Any]:
        """Return the row as the API returns it.  A user sees no host."""
        machine = self.machine
        return {
            "id": machine.id,
            "vsphere": machine.vsphere,
            "uuid": machine.uuid,
            "name": machine.name,
            "folder": machine.folder,
            "power": machine.power.value,
            "tags": sorted(machine.tags),
            "connected": machine.connected,
            "rights": sorted(self.rights),
            "favourite": self.is_favourite,
        }


class SharedRows:
    """The rows of all users with the same rights, which follow the inventories.

    They have no favourites.  ``version`` counts the changes that a user can see: a machine that moves to
    another host is none, so no page searches all machines again for it.
    """

    def __init__(self, rights: Callable[[Machine], Collection[Any]]) -> None:
        self._rights = rights
        self._rows: dict[str, MachineRow] = {}
        self._order: Sequence[str] | None = None
        """The ids in their order, None after a change of it."""
        self._sorted: Sequence[MachineRow] | None = None
        self.version = 0

    def update(self, old: Machine | None, new: Machine | None) -> None:
        """Take a change of one machine."""
        before = None if old is None else self._rows.pop(old.id, None)
        after = None if new is None else self._row(new)
        if after is not None:
            self._rows[after.key] = after
        if before != after:
            has_moved = before is None or after is None or before.place != after.place
            self._order = None if has_moved else self._order
            self._sorted = None
            if before is None or after is None or not after.is_shown_like(before):
                self.version += 1

    def find(self, machine: str) -> MachineRow | None:
        """Return the row of a machine by its id."""
        return self._rows.get(machine)

    @property
    def rows(self) -> Sequence[MachineRow]:
        """All rows in their order."""
        if self._order is None:
            self._order = [row.key for row in sorted(self._rows.values(), key=attrgetter("place"))]
        if self._sorted is None:
            self._sorted = [self._rows[key] for key in self._order]
        return self._sorted

    def _row(self, machine: Machine) -> MachineRow | None:
        rights = frozenset(str(right.value) for right in self._rights(machine))
        if not rights:
            return None
        texts = (machine.name, machine.folder, machine.vsphere, machine.uuid, *sorted(machine.tags))
        return MachineRow(machine, rights, "\n".join(texts).lower())


class MachineView:
    """The rows of one user at one listener: those of its rights, with its favourites in front."""

    def __init__(self, shared: SharedRows, favourites: Collection[str]) -> None:
        self.shared = shared
        self._favourites = frozenset(favourites)
        self._changes = 0
        self._rows: tuple[object, Sequence[MachineRow]] | None = None
        """The rows with favourites, and the version that they are of."""

    @property
    def version(self) -> tuple[int, int]:
        """A value that is another one after each change."""
        return self.shared.version, self._changes

    def set_favourites(self, favourites: Collection[str]) -> None:
        """Take the favourites of the user."""
        wanted = frozenset(favourites)
        if wanted != self._favourites:
            self._favourites = wanted
            self._changes += 1

    def find(self, machine: str) -> MachineRow | None:
        """Return the row of a machine by its id."""
        found = self.shared.find(machine)
        return replace(found, is_favourite=True) if found and machine in self._favourites else found

    @property
    def rows(self) -> Sequence[MachineRow]:
        """All rows in their order."""
        if not self._favourites:
            return self.shared.rows
        if self._rows is None or self._rows[0] != self.version:
            found = [row for key in self._favourites if (row := self.find(key)) is not None]
            others = [row for row in self.shared.rows if row.key not in self._favourites]
            self._rows = self.version, [*sorted(found, key=attrgetter("place")), *others]
        return self._rows[1]


class Catalogue:
    """The machines of all vCenters, as each user sees them.

    ``rights`` returns the rights of a principal at a listener on a machine.  ``scope`` returns a value that
    is equal for principals with the same rights: these share their rows.  ``vspheres`` returns the vCenters
    that a listener leads to, None for all.
    """

    def __init__(
        self,
        service: VSphereService,
        rights: Rights,
        scope: Scope,
        vspheres: VSpheres = lambda listener: None,
    ) -> None:
        self._service = service
        self._rights = rights
        self._scope = scope
        self._vspheres = vspheres
        self._views: WeakValueDictionary[tuple[Any, ...], MachineView] = WeakValueDictionary()
        """The views in use: an event stream keeps its own."""
        self._recent: OrderedDict[tuple[Any, ...], MachineView] = OrderedDict()
        self._shared: WeakValueDictionary[Hashable, SharedRows] = WeakValueDictionary()
        self._unsubscribe: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin to follow the inventories."""
        for inventory in self._service.inventories.values():
            self._unsubscribe.append(inventory.subscribe(partial(self._updated, inventory)))

    def stop(self) -> None:
        """Follow them no longer."""
        unsubscribe, self._unsubscribe = self._unsubscribe, []
        for end in unsubscribe:
            end()
        self._forget()

    def view(self, listener: str, principal: Principal, favourites: Collection[str]) -> MachineView:
        """Return the rows of a user at a listener."""
        key = (listener, principal.names, principal.groups)
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = MachineView(self._shared_rows(listener, principal), favourites)
        self._recent[key] = found
        self._recent.move_to_end(key)
        if len(self._recent) > MAX_VIEWS:
            self._recent.popitem(last=False)
        found.set_favourites(favourites)
        return found

    def _shared_rows(self, listener: str, principal: Principal) -> SharedRows:
        scope = self._scope(listener, principal)
        found = self._shared.get(scope)
        if found is None:
            found = SharedRows(lambda machine: self._rights(listener, principal, machine))
            for machine in self._machines():
                found.update(None, machine)
            self._shared[scope] = found
        return found

    def problems(self, listener: str) -> Sequence[dict[str, str]]:
        """Return why machines of a vCenter are missing or not up to date, by the names of the vCenters."""
        found = []
        for name, inventory in self.inventories(listener).items():
            if inventory.problem is not None or not inventory.ready:
                text = "cannot be reached now" if inventory.problem is not None else "is being read"
                found.append({"vsphere": name, "problem": text})
        return found

    def unread(self, listener: str, wanted: str) -> str | None:
        """Return the name of a vCenter that may have a machine and has not been read yet.

        ``wanted`` is ``VSPHERE/UUID``, a UUID or a name.
        """
        inventories, section = self.inventories(listener), wanted.partition("/")[0]
        asked = [section] if "/" in wanted and section in inventories else inventories
        return next((name for name in asked if not inventories[name].ready), None)

    def inventories(self, listener: str) -> Mapping[str, Inventory]:
        """Return the inventories that a listener leads to."""
        all_of_them, names = self._service.inventories, self._vspheres(listener)
        if names is None:
            return all_of_them
        return {name: inventory for name, inventory in all_of_them.items() if name in names}

    def _machines(self) -> Iterable[Machine]:
        for inventory in self._service.inventories.values():
            yield from inventory.machines.values()

    def _updated(self, inventory: Inventory, old: Machine | None, new: Machine | None) -> None:
        if not inventory.ready:
            self._forget()  # all machines come at once: rows are made when they are asked for
            return
        for shared in list(self._shared.values()):
            shared.update(old, new)

    def _forget(self) -> None:
        """Make all rows again when they are asked for."""
        self._views.clear()
        self._recent.clear()
        self._shared.clear()

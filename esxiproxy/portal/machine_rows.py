"""The machines that a user may see, in the order in which they are listed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from esxiproxy.core.routing import Principal
from esxiproxy.portal.machine_service import Machine, MachineService, Rights

MAX_VIEWS = 64
"""Users whose lists are kept up to date; that of another one is made again when it is asked for."""
COLUMNS = frozenset({"name", "folder", "power", "vsphere", "tag"})
"""The columns that a word of a search may name, as in ``power:on``."""


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine with the rights of one user.  ``words`` are its texts, which a search looks into."""

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


class MachineView:
    """The rows of one user at one listener, which follow the inventories.  ``version`` counts its changes."""

    def __init__(self, rights: Callable[[Machine], Collection[Any]], favourites: Collection[str]) -> None:
        self._rights = rights
        self._favourites = frozenset(favourites)
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
            self._changed(before is None or after is None or before.place != after.place)

    def set_favourites(self, favourites: Collection[str]) -> None:
        """Take the favourites of the user."""
        wanted = frozenset(favourites)
        changed = [key for key in wanted ^ self._favourites if key in self._rows]
        self._favourites = wanted
        for key in changed:
            self._rows[key] = replace(self._rows[key], is_favourite=key in wanted)
        if changed:
            self._changed(True)

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

    def _changed(self, has_moved: bool) -> None:
        self._sorted = None
        self._order = None if has_moved else self._order
        self.version += 1

    def _row(self, machine: Machine) -> MachineRow | None:
        rights = frozenset(str(right.value) for right in self._rights(machine))
        if not rights:
            return None
        texts = (machine.name, machine.folder, machine.vsphere, machine.uuid, *sorted(machine.tags))
        words = "\n".join(texts).lower()
        return MachineRow(machine, rights, words, machine.id in self._favourites)


class Catalogue:
    """The machines of all vCenters, as each user sees them.

    ``rights`` returns the rights of a principal at a listener on a machine.
    """

    def __init__(self, service: MachineService, rights: Rights) -> None:
        self._service = service
        self._rights = rights
        self._views: OrderedDict[tuple[Any, ...], MachineView] = OrderedDict()
        self._unsubscribe: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin to follow the inventories."""
        for inventory in self._service.inventories.values():
            self._unsubscribe.append(inventory.subscribe(self._updated))

    def stop(self) -> None:
        """Follow them no longer."""
        unsubscribe, self._unsubscribe = self._unsubscribe, []
        for end in unsubscribe:
            end()
        self._views.clear()

    def view(self, listener: str, principal: Principal, favourites: Collection[str]) -> MachineView:
        """Return the rows of a user at a listener."""
        key = (listener, principal.names, principal.groups)
        found = self._views.get(key)
        if found is None:
            found = MachineView(lambda machine: self._rights(listener, principal, machine), favourites)
            for machine in self._machines():
                found.update(None, machine)
            self._views[key] = found
            if len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        found.set_favourites(favourites)
        return found

    def problems(self) -> Sequence[dict[str, str]]:
        """Return why machines of a vCenter are missing or not up to date, by the names of the vCenters."""
        found = []
        for name, inventory in self._service.inventories.items():
            if inventory.problem is not None or not inventory.ready:
                text = "cannot be reached now" if inventory.problem is not None else "is being read"
                found.append({"vsphere": name, "problem": text})
        return found

    def _machines(self) -> Iterable[Machine]:
        for inventory in self._service.inventories.values():
            yield from inventory.machines.values()

    def _updated(self, old: Machine | None, new: Machine | None) -> None:
        for view in self._views.values():
            view.update(old, new)

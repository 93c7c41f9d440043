"""Makes the machines of an inventory from the objects of a server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine, Power
from esxiproxy.vsphere.watched_objects import FolderPaths, Properties, WatchedObjects

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_POWER = {"poweredOn": Power.ON, "poweredOff": Power.OFF, "suspended": Power.SUSPENDED}
_ESCAPED = re.compile(r"%(2f|5c|25)", re.IGNORECASE)
NO_TAGS: frozenset[str] = frozenset()


class MachineIndex:
    """Keeps an inventory equal to the objects of its server and to the tags of its machines.

    A template has no console and is not listed, nor is a machine whose UUID is not known.  Of two machines
    with one UUID the one that was seen first is listed.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._objects = WatchedObjects()
        self._tags: Mapping[str, frozenset[str]] = {}
        self._by_moid: dict[str, Machine] = {}
        self._by_uuid: dict[str, dict[str, Machine]] = {}
        """The machines of a UUID by their id, the one that is listed first."""
        self.duplicates = 0
        """The number of machines that are not listed, since another one has their UUID."""

    @property
    def moids(self) -> Iterable[str]:
        """The ids of all machines."""
        return self._by_moid.keys()

    def show(self, objects: WatchedObjects, changed: Iterable[str] | None) -> None:
        """Take over the machines that changed, or all of them, and then those objects only."""
        if changed is None or objects is not self._objects:
            changed = {**objects.of("VirtualMachine"), **self._by_moid}
        self._objects = objects
        self._refresh(changed)

    def tag(self, tags: Mapping[str, frozenset[str]]) -> None:
        """Take over the tags of the machines, by their ids."""
        before, self._tags = self._tags, tags
        self._refresh(
            moid for moid in {**before, **tags} if before.get(moid, NO_TAGS) != tags.get(moid, NO_TAGS)
        )

    def _refresh(self, moids: Iterable[str]) -> None:
        """Read these machines again, and count those that share an instance UUID."""
        folders = FolderPaths(self._objects)
        found = self._objects.of("VirtualMachine")
        uuids: dict[str, None] = {}
        for moid in moids:
            properties = found.get(moid)
            old = self._by_moid.get(moid)
            new = None if properties is None else self._machine(moid, properties, folders)
            if old == new:
                continue
            if old is not None and (new is None or new.uuid != old.uuid):
                self._remove(old)
                uuids[old.uuid] = None
            if new is not None:
                self._by_moid[moid] = new
                self._by_uuid.setdefault(new.uuid, {})[moid] = new
                uuids[new.uuid] = None
            else:
                self._by_moid.pop(moid, None)
        self.duplicates = len(self._by_moid) - len(self._by_uuid)
        for uuid in uuids:
            self.inventory.change(uuid, next(iter(self._by_uuid.get(uuid, {}).values()), None))

    def _remove(self, machine: Machine) -> None:
        same = self._by_uuid[machine.uuid]
        del same[machine.moid]
        if not same:
            del self._by_uuid[machine.uuid]

    def _machine(self, moid: str, properties: Properties, folders: FolderPaths) -> Machine | None:
        """Return the machine of an object, or None if it is not listed."""
        uuid = properties.get("config.instanceUuid", "").lower()
        if not _UUID.fullmatch(uuid) or properties.get("config.template") in ("true", "1"):
            return None
        host = self._objects.of("HostSystem").get(properties.get("runtime.host", ""), {})
        most = properties.get("config.maxMksConnections", "")
        return Machine(
            vsphere=self.inventory.name,
            uuid=uuid,
            moid=moid,
            name=unescaped(properties.get("name", "")),
            folder=folders.of(properties),
            power=_POWER.get(properties.get("runtime.powerState", ""), Power.OFF),
            host=host.get("name", ""),
            tags=self._tags.get(moid, NO_TAGS),
            max_consoles=int(most) if re.fullmatch("[1-9][0-9]{0,5}", most) else None,
            connected=properties.get("runtime.connectionState", "connected") == "connected",
        )


def unescaped(name: str) -> str:
    """Return a name without the escapes that vSphere writes for a slash, a backslash and a percent sign."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)

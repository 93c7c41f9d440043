"""The watched properties of the objects of one server, and the paths of folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from esxiproxy.vsphere.answers import ObjectUpdate, UpdateKind
from esxiproxy.vsphere.calls import PROPERTIES
from esxiproxy.vsphere.xml_tree import InvalidAnswer

MAX_OBJECTS = 200_000
MAX_LEVELS = 64
"""Maximum number of folders in each other."""
LOST = ("..",)
"""The path of a folder that is too deep or in itself, which no rule for a folder should mean."""
_MACHINE = "VirtualMachine"

Properties = Mapping[str, str]


class WatchedObjects:
    """The objects that a server has reported, by type and id, with the properties that are watched."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in PROPERTIES}

    def of(self, kind: str) -> Mapping[str, Properties]:
        """Return the objects of a type by their id."""
        return self._objects[kind]

    def apply(self, updates: Iterable[ObjectUpdate]) -> set[str] | None:
        """Take over changes, and return the ids of machines that changed.

        None means that the names of folders or hosts changed, and with them any machine.  Raise InvalidAnswer
        when there are too many objects.
        """
        changed: set[str] | None = set()
        for update in updates:
            objects = self._objects.get(update.object.type)
            if objects is None:
                continue
            moid = update.object.moid
            if update.kind is UpdateKind.LEAVE:
                objects.pop(moid, None)
            else:
                _assign(objects, moid, update)
            if update.object.type != _MACHINE:
                changed = None
            elif changed is not None:
                changed.add(moid)
        if sum(map(len, self._objects.values())) > MAX_OBJECTS:
            raise InvalidAnswer(f"the server has more than {MAX_OBJECTS} machines, hosts and folders")
        return changed


def _assign(objects: dict[str, dict[str, str]], moid: str, update: ObjectUpdate) -> None:
    known = PROPERTIES[update.object.type]
    if update.kind is UpdateKind.ENTER:
        objects[moid] = {}
    properties = objects.setdefault(moid, {})
    for name, value in update.properties:
        if value is not None and name in known:
            properties[name] = value
        elif value is None:  # the property, or the one that it is a part of, has no value any more
            for each in known:
                if each == name or each.startswith(f"{name}."):
                    properties.pop(each, None)


class FolderPaths:
    """The paths of folders at one time.  Each is found once."""

    def __init__(self, objects: WatchedObjects) -> None:
        self._objects = objects
        centers = sorted(found.get("name", "") for found in objects.of("Datacenter").values())
        self._several = len(centers) > 1
        self._alike = {name for name, same in groupby(centers) if len(list(same)) > 1}
        """Names that several datacenters have, which the folders above them distinguish."""
        self._paths: dict[str, tuple[str, ...]] = {}
        """The names from the root down to an object."""

    def of(self, machine: Properties) -> str:
        """Return the path of the folder of a machine."""
        return "/" + "/".join(self._path(machine.get("parent") or machine.get("parentVApp", "")))

    def _path(self, moid: str) -> tuple[str, ...]:
        """Return the names of an object and of those above it."""
        chain: dict[str, None] = {}
        while moid not in self._paths and moid not in chain and self._kind(moid):
            chain[moid] = None
            moid = self._parent_of(moid)
        path = LOST if moid in chain else self._paths.get(moid, ())
        for each in reversed(chain):
            path = self._paths[each] = self._path_below(path, each)
        return path

    def _path_below(self, path: tuple[str, ...], moid: str) -> tuple[str, ...]:
        """Return the path of an object from the one of the object above it."""
        kind = self._kind(moid)
        name = self._objects.of(kind).get(moid, {}).get("name", "")
        if kind == "Datacenter":
            return () if not self._several else (*path, name) if name in self._alike else (name,)
        is_hidden = kind == "Folder" and self._kind(self._parent_of(moid)) == "Datacenter"
        return path if is_hidden else (*path, name) if len(path) < MAX_LEVELS else LOST

    def _parent_of(self, moid: str) -> str:
        found = self._objects.of(self._kind(moid)).get(moid, {})
        return found.get("parentFolder") or found.get("parent", "")

    def _kind(self, moid: str) -> str:
        """Return the type of an object that can hold machines, or an empty text for any other."""
        kinds = ("Folder", "Datacenter", "VirtualApp")
        return next((kind for kind in kinds if moid in self._objects.of(kind)), "")

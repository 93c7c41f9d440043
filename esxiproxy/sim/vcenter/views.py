"""Container views: the objects of some types below a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import Entity, ManagedObject
from esxiproxy.sim.vcenter.soap import Ref, Several, Value


class ViewObject(ManagedObject):
    """One container view of a session."""

    def __init__(
        self,
        ref: Ref,
        inventory: SimulatedInventory,
        container: Entity,
        types: tuple[str, ...],
        recursive: bool,
    ) -> None:
        super().__init__(ref)
        self._inventory = inventory
        self._container = container
        self._types = types
        self._recursive = recursive

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {
            "container": lambda: self._container.ref,
            "type": lambda: Several("string", self._types),
            "recursive": lambda: self._recursive,
            "view": self._view,
        }

    def _view(self) -> Several:
        found = self._inventory.below(self._container, self._types, self._recursive)
        return Several("ManagedObjectReference", tuple(entity.ref for entity in found))

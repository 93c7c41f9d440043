"""The inventory of a simulated vCenter: datacenters, folders, hosts and machines that change."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.machine import VirtualMachine
from esxiproxy.sim.vcenter import schema
from esxiproxy.sim.vcenter.objects import (
    ComputeObject,
    DatacenterObject,
    Entity,
    FolderObject,
    HostObject,
    MachineObject,
    ManagedObject,
    SimulatedPower,
)
from esxiproxy.sim.vcenter.soap import Ref

_UUIDS = uuid.UUID("50300000-0000-4000-8000-000000000000")


class SimulatedInventory:
    """The tree of managed objects. Listeners are called with the reference of every object that changes.

    `generation` grows when objects are added, removed or moved.
    """

    def __init__(self, name: str, make_console: Callable[[str], VirtualMachine]) -> None:
        self.name = name
        self.generation = 0
        self.listeners: set[Callable[[Ref], None]] = set()
        self.objects: dict[Ref, ManagedObject] = {}
        self.machines: dict[Ref, MachineObject] = {}
        self.hosts: dict[Ref, HostObject] = {}
        self._make_console = make_console
        self._numbers = count(1)
        self._uuids = count(1)
        self.root = FolderObject(self._ref("Folder", "group-d"), "Datacenters", None)
        self.objects[self.root.ref] = self.root

    def add_datacenter(self, name: str) -> DatacenterObject:
        """Add an empty datacenter."""
        ref = self._ref("Datacenter", "datacenter-")
        machines, hosts = self._ref("Folder", "group-v"), self._ref("Folder", "group-h")
        datacenter = DatacenterObject(ref, name, self.root, machines, hosts)
        for entity in (datacenter, datacenter.machines, datacenter.hosts):
            self.objects[entity.ref] = entity
        self.root.entities[ref] = datacenter
        self._structure_changed(self.root.ref)
        return datacenter

    def add_host(self, datacenter: DatacenterObject, name: str, esxi: SimulatedHost) -> HostObject:
        """Add a host to a datacenter."""
        compute = ComputeObject(self._ref("ComputeResource", "domain-s"), name, datacenter.hosts)
        host = HostObject(self._ref("HostSystem", "host-"), name, compute, esxi)
        compute.hosts.append(host)
        datacenter.hosts.entities[compute.ref] = compute
        self.objects[compute.ref] = compute
        self.objects[host.ref] = self.hosts[host.ref] = host
        self._structure_changed(datacenter.hosts.ref)
        return host

    def folder(self, datacenter: DatacenterObject, path: str) -> FolderObject:
        """Return a machine folder of a datacenter such as ``/Prod/Web``; missing ones are added."""
        folder = datacenter.machines
        for name in (part for part in path.split("/") if part):
            below = next((child for child in folder.children() if child.name == name), None)
            if not isinstance(below, FolderObject):
                below = FolderObject(self._ref("Folder", "group-v"), name, folder)
                folder.entities[below.ref] = self.objects[below.ref] = below
                self._structure_changed(folder.ref)
            folder = below
        return folder

    def add_machine(
        self,
        name: str,
        folder: FolderObject,
        host: HostObject,
        tags: Iterable[str] = (),
        power: SimulatedPower = SimulatedPower.ON,
        instance_uuid: str | None = None,
    ) -> MachineObject:
        """Add a machine; without an instance UUID it gets one that depends on its number only."""
        number = next(self._uuids)
        made = instance_uuid or str(uuid.UUID(int=_UUIDS.int + number))
        ref = self._ref("VirtualMachine", "vm-")
        machine = MachineObject(ref, name, folder, host, made, self._make_console)
        machine.tags = set(tags)
        machine.power = power
        self.objects[ref] = self.machines[ref] = machine
        folder.entities[ref] = machine
        host.machines[ref] = machine
        self._structure_changed(folder.ref)
        return machine

    def remove_machine(self, machine: MachineObject) -> None:
        """Remove a machine and close its consoles."""
        self._leave(machine)
        parent = machine.parent
        assert isinstance(parent, FolderObject)
        del parent.entities[machine.ref]
        del self.machines[machine.ref], self.objects[machine.ref]
        self._structure_changed(parent.ref)
        self.changed(machine.ref)

    def move_machine(self, machine: MachineObject, host: HostObject, code: int, reason: str) -> None:
        """Move a machine to another host. Its consoles on the old host are closed."""
        if host is machine.host:
            return
        self._leave(machine, code, reason)
        machine.host = host
        host.machines[machine.ref] = machine
        self.changed(machine.ref)

    def move_to_folder(self, machine: MachineObject, folder: FolderObject) -> None:
        """Move a machine to another folder."""
        parent = machine.parent
        assert isinstance(parent, FolderObject)
        del parent.entities[machine.ref]
        folder.entities[machine.ref] = machine
        machine.parent = folder
        self._structure_changed(folder.ref)
        self.changed(machine.ref)

    def changed(self, ref: Ref) -> None:
        """Notify the listeners of the change of an object."""
        for listener in tuple(self.listeners):
            listener(ref)

    def add_object(self, managed: ManagedObject) -> None:
        """Add an object that is not in the tree, such as a task."""
        self.objects[managed.ref] = managed

    def find_machine(self, key: str) -> MachineObject | None:
        """Return the machine with this moid, instance UUID or name, or None."""
        known = self.machines.get(Ref("VirtualMachine", key))
        if known is not None:
            return known
        return next((each for each in self.machines.values() if key in (each.uuid, each.name)), None)

    def find_host(self, key: str) -> HostObject | None:
        """Return the host with this moid or name, or None."""
        return next((each for each in self.hosts.values() if key in (each.ref.moid, each.name)), None)

    def below(self, entity: Entity, types: Iterable[str], recursive: bool) -> Iterator[Entity]:
        """Yield the objects below another one that are of these types; of all types if none is named."""
        wanted = tuple(types)
        waiting = list(reversed(entity.children()))
        while waiting:
            each = waiting.pop()
            if not wanted or any(schema.is_a(each.ref.type, name) for name in wanted):
                yield each
            if recursive:
                waiting.extend(reversed(each.children()))

    def _leave(
        self, machine: MachineObject, code: int = 1001, reason: str = "the machine was removed"
    ) -> None:
        del machine.host.machines[machine.ref]
        machine.revoke_tickets()
        machine.end_consoles(code, reason)

    def _ref(self, type_name: str, prefix: str) -> Ref:
        return Ref(type_name, f"{prefix}{next(self._numbers)}")

    def _structure_changed(self, ref: Ref) -> None:
        self.generation += 1
        self.changed(ref)

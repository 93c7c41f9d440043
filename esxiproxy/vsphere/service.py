"""The vCenters and ESXi hosts of a configuration: their machines, and what can be done with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from esxiproxy.core.config.model import Config
from esxiproxy.core.errors import MachineAmbiguous, MachineNotFound, VSphereUnavailable
from esxiproxy.interfaces import IHttpClient
from esxiproxy.vsphere.console_ticket import ConsoleTicket
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine, MachineConnection


class VSphereService:
    """The sections [vsphere NAME] of a configuration.

    Each has one login and one watch of its machines, which begin with ``start``.
    """

    def __init__(self, config: Config, http: IHttpClient, clock: Any) -> None:
        self.inventories: Mapping[str, Inventory] = {name: Inventory(name) for name in config.vspheres}

    def start(self) -> None:
        """Log in, and begin to watch the machines."""

    async def stop(self) -> None:
        """End the watches and log out."""

    def find(self, text: str) -> Machine:
        """Return the machine of ``SECTION/UUID``, of a UUID, or of a name.

        Raise MachineNotFound, or MachineAmbiguous when there are several.
        """
        section, slash, uuid = text.partition("/")
        if slash and section in self.inventories:
            machine = self.inventories[section].machines.get(uuid.lower())
            if machine is not None:
                return machine
        return _only(text, list(self._matching(text)))

    async def acquire_ticket(self, machine: Machine) -> ConsoleTicket:
        """Return a new ticket for a console of the machine, which must be powered on."""
        raise VSphereUnavailable(machine.vsphere)

    async def connections(self, machine: Machine) -> Sequence[MachineConnection]:
        """Return the consoles that are open on the machine."""
        raise VSphereUnavailable(machine.vsphere)

    async def drop_connections(self, machine: Machine, labels: Iterable[str]) -> None:
        """Close the consoles with these labels."""
        raise VSphereUnavailable(machine.vsphere)

    async def power_on(self, machine: Machine) -> None:
        """Begin to power the machine on.  The inventory shows when it is on."""
        raise VSphereUnavailable(machine.vsphere)

    async def set_resolution(self, machine: Machine, width: int, height: int) -> None:
        """Set the size of the guest's screen, which needs VMware Tools."""
        raise VSphereUnavailable(machine.vsphere)

    async def thumbnail(self, machine: Machine) -> bytes:
        """Return a picture of the machine's screen, as PNG."""
        raise VSphereUnavailable(machine.vsphere)

    def _matching(self, text: str) -> Iterable[Machine]:
        uuid = text.lower()
        by_uuid = [found for each in self.inventories.values() if (found := each.machines.get(uuid))]
        if by_uuid:
            return by_uuid
        return (
            machine
            for inventory in self.inventories.values()
            for machine in inventory.machines.values()
            if machine.name == text
        )


def _only(text: str, found: Sequence[Machine]) -> Machine:
    if not found:
        raise MachineNotFound("no virtual machine has this name or UUID")
    if len(found) > 1:
        raise MachineAmbiguous(f"{len(found)} virtual machines have this name or UUID: ask by SECTION/UUID")
    return found[0]

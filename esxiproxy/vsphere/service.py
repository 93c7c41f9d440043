"""The vCenters and ESXi hosts of a configuration: their machines, and what can be done with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from esxiproxy.core.config.model import Config
from esxiproxy.core.errors import MachineNotFound, TooManyConsoles
from esxiproxy.core.recent_keys import RecentKeys
from esxiproxy.interfaces import IHttpClient
from esxiproxy.vsphere.console_ticket import ConsoleTicket
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine, MachineConnection
from esxiproxy.vsphere.server import VSphereServer
from esxiproxy.vsphere.stops import stop_all

FULL_TIME = 10.0
"""Seconds for which a machine counts as full after it has refused a console."""


class VSphereService:
    """The sections [vsphere NAME] of a configuration.

    Each has one login and one watch of its machines, which begin with ``start``.
    """

    def __init__(self, config: Config, http: IHttpClient, clock: Any) -> None:
        self._servers = {
            name: VSphereServer(vsphere, http, clock) for name, vsphere in config.vspheres.items()
        }
        self.inventories: Mapping[str, Inventory] = MappingProxyType(
            {name: server.inventory for name, server in self._servers.items()}
        )
        self._full = RecentKeys(FULL_TIME, clock.seconds)
        """The machines that have refused a console."""

    def start(self) -> None:
        """Log in, and begin to watch the machines."""
        for server in self._servers.values():
            server.start()

    async def stop(self) -> None:
        """End the watches and log out, at all servers at once."""
        await stop_all(server.stop() for server in self._servers.values())

    async def acquire_ticket(self, machine: Machine) -> ConsoleTicket:
        """Return a new ticket for a console of the machine, which must be powered on."""
        try:
            return await self._server(machine).acquire_ticket(machine)
        except TooManyConsoles:
            self._full.add(machine.id)
            raise

    def is_full(self, machine: Machine) -> bool:
        """Return whether the machine has just refused a console because all of its consoles are in use."""
        return machine.id in self._full

    async def connections(self, machine: Machine) -> Sequence[MachineConnection]:
        """Return the consoles that are open on the machine."""
        return await self._server(machine).connections(machine)

    async def drop_connections(self, machine: Machine, labels: Iterable[str]) -> None:
        """Close the consoles with these labels."""
        await self._server(machine).drop_connections(machine, labels)

    async def power_on(self, machine: Machine) -> None:
        """Begin to power the machine on.  The inventory shows when it is on."""
        await self._server(machine).power_on(machine)

    async def set_resolution(self, machine: Machine, width: int, height: int) -> None:
        """Set the size of the guest's screen, which needs VMware Tools."""
        await self._server(machine).set_resolution(machine, width, height)

    async def thumbnail(self, machine: Machine) -> bytes:
        """Return a picture of the machine's screen, as PNG."""
        return await self._server(machine).thumbnail(machine)

    def _server(self, machine: Machine) -> VSphereServer:
        """Return the server of a machine, which a reload may have removed."""
        server = self._servers.get(machine.vsphere)
        if server is None:
            raise MachineNotFound("the vCenter of this virtual machine is not in the configuration any more")
        return server

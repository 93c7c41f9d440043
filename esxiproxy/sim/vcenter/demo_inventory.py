"""The first inventory of a simulated vCenter: a dozen named machines, or thousands of numbered ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import SimulatedPower

DATACENTER: Final = "Lab"

NAMED: Final[Sequence[tuple[str, str, tuple[str, ...]]]] = (
    ("web-01", "/Prod/Web", ("console", "linux")),
    ("web-02", "/Prod/Web", ("console", "linux")),
    ("web-03", "/Prod/Web", ("linux",)),
    ("db-primary", "/Prod/Databases", ("console", "linux")),
    ("db-replica", "/Prod/Databases", ("linux",)),
    ("mail", "/Prod", ("console", "linux")),
    ("build-agent-1", "/Test/Build", ("linux",)),
    ("build-agent-2", "/Test/Build", ("linux",)),
    ("staging", "/Test", ("console", "linux")),
    ("desktop-anna", "/Desktops", ("windows",)),
    ("desktop-ben", "/Desktops", ("windows",)),
    ("old-erp", "/Archive", ("windows",)),
)
"""The names of the first machines, with their folders and tags."""

WITHOUT_POWER: Final = frozenset({"build-agent-2", "old-erp"})
PER_FOLDER: Final = 50


def host_names(count: int) -> list[str]:
    """Return the names of this many hosts."""
    return [f"esx-{number:02}.lab.example" for number in range(1, count + 1)]


def fill(inventory: SimulatedInventory, hosts: Sequence[SimulatedHost], machines: int) -> None:
    """Add the datacenter, the hosts and this many machines, spread over the hosts in turn."""
    datacenter = inventory.add_datacenter(DATACENTER)
    names = host_names(len(hosts))
    added = [inventory.add_host(datacenter, name, esxi) for name, esxi in zip(names, hosts, strict=True)]
    for number in range(machines):
        if number < len(NAMED):
            name, path, tags = NAMED[number]
        else:
            name, path, tags = f"vm-{number + 1:05}", f"/Fleet/{number // PER_FOLDER + 1:03}", ()
        power = SimulatedPower.OFF if name in WITHOUT_POWER else SimulatedPower.ON
        inventory.add_machine(
            name, inventory.folder(datacenter, path), added[number % len(added)], tags, power
        )

"""The rights on machines, the limits of their consoles, and the links to them, as the portal needs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field

from esxiproxy.core.access import Right
from esxiproxy.core.routing import Principal
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine

OPEN, POWER, DISCONNECT = "open", "power", "disconnect"
"""The values of the rights on a machine."""


Rights = Callable[[str, Principal, Machine], Collection[Right]]
"""Returns the rights of a principal on a machine, by the rules of the routers of a listener."""
Scope = Callable[[str, Principal], Hashable]
"""Returns a value that is equal for principals with the same rights, at whichever listener."""
VSpheres = Callable[[str], Collection[str] | None]
"""Returns the names of the vCenters that a listener leads to, None for all."""


@dataclass(frozen=True, slots=True)
class ApiLink:
    """A link that opens a console once, and the time of day at which it expires."""

    url: str = field(repr=False)
    expires: float


IsFull = Callable[[str, Machine], Awaitable[bool]]
"""Returns whether all consoles of a machine are in use, by the limits of a listener."""

MintLink = Callable[[Machine, Principal, str], Awaitable[ApiLink]]
"""Makes a link for a machine, a principal, and the public URL of a listener."""


class NoMachines:
    """A service without any vCenter."""

    inventories: Mapping[str, Inventory] = {}

"""The interfaces that the portal needs of the service for vCenter, of the access rules, and of links."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from esxiproxy.core.routing import Principal

OPEN, POWER, DISCONNECT = "open", "power", "disconnect"
"""The values of the rights on a machine."""


class Power(Protocol):
    """The power state of a machine."""

    @property
    def value(self) -> str:
        """Return ``on``, ``off`` or ``suspended``."""


class Machine(Protocol):
    """A virtual machine of an inventory."""

    @property
    def vsphere(self) -> str:
        """The name of the section of its vCenter."""

    @property
    def uuid(self) -> str:
        """Its instance UUID."""

    @property
    def name(self) -> str:
        """Its name, which is hostile text."""

    @property
    def folder(self) -> str:
        """The path of its folder, without its name."""

    @property
    def power(self) -> Power:
        """Its power state."""

    @property
    def tags(self) -> Collection[str]:
        """Its tags."""

    @property
    def connected(self) -> bool:
        """Whether its host is connected to its vCenter."""

    @property
    def id(self) -> str:
        """Its name among the machines of all vCenters, as ``SECTION/UUID``."""


class Inventory(Protocol):
    """The machines of one vCenter."""

    @property
    def machines(self) -> Mapping[str, Any]:
        """The machines by their UUIDs."""

    @property
    def ready(self) -> bool:
        """Whether the machines were read."""

    @property
    def problem(self) -> str | None:
        """A sentence on why it cannot be reached."""

    def subscribe(self, callback: Callable[[Any, Any], None]) -> Callable[[], None]:
        """Call a function with the machine before and after each change; return how to end this."""


class MachineConnection(Protocol):
    """A console of a machine that is open now, by whichever way."""

    @property
    def label(self) -> str:
        """Its name at vCenter."""

    @property
    def client(self) -> str:
        """The address of its client."""

    @property
    def user(self) -> str:
        """The name of its user."""


class MachineService(Protocol):
    """The service for vCenter.  Its calls raise a SessionError."""

    @property
    def inventories(self) -> Mapping[str, Any]:
        """The inventories by the names of their sections."""

    def connections(self, machine: Any) -> Awaitable[Sequence[Any]]:
        """Return the open consoles of a machine."""

    def drop_connections(self, machine: Any, labels: Sequence[str]) -> Awaitable[None]:
        """Close consoles of a machine."""

    def power_on(self, machine: Any) -> Awaitable[None]:
        """Power on a machine."""

    def set_resolution(self, machine: Any, width: int, height: int) -> Awaitable[None]:
        """Set the size of the screen of a machine."""

    def thumbnail(self, machine: Any) -> Awaitable[bytes]:
        """Return a small picture of the screen of a machine, as PNG."""


class Right(Protocol):
    """A right on a machine."""

    @property
    def value(self) -> str:
        """Return ``open``, ``power`` or ``disconnect``."""


Rights = Callable[[str, Principal, Any], Collection[Any]]
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


IsFull = Callable[[str, Any], Awaitable[bool]]
"""Returns whether all consoles of a machine are in use, by the limits of a listener."""

MintLink = Callable[[Any, Principal, str], Awaitable[ApiLink]]
"""Makes a link for a machine, a principal, and the public URL of a listener."""


class NoMachines:
    """A service without any vCenter."""

    inventories: Mapping[str, Any] = {}

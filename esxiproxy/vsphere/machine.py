"""A virtual machine as vCenter or an ESXi host lists it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Power(Enum):
    """The power state of a machine."""

    ON = "on"
    OFF = "off"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Machine:
    """One virtual machine.

    ``vsphere`` is the name of the section.  ``uuid`` is the instance UUID in lower case, which stays when the
    machine is moved.  ``moid`` is its id for calls, which changes when it is registered again.  ``folder`` is
    the path of its folder, ``/`` for the root.  The names in it are written as vCenter writes them, so that a
    slash in a name is ``%2f``.  ``host`` is the name of its ESXi host, empty while that is not known.
    ``max_consoles`` is the number of consoles that it admits at a time, None for the host's default.
    ``connected`` is whether its host can reach it.
    """

    vsphere: str
    uuid: str
    moid: str
    name: str
    folder: str
    power: Power
    host: str
    tags: frozenset[str] = frozenset()
    max_consoles: int | None = None
    connected: bool = True

    @property
    def id(self) -> str:
        """The name of the machine among those of all sections, as ``SECTION/UUID``."""
        return f"{self.vsphere}/{self.uuid}"


@dataclass(frozen=True, slots=True)
class MachineConnection:
    """A console that is open on a machine.

    It may be open past the proxy.  ``client`` is the address that the host sees, and ``user`` is the account
    at vCenter or the host.
    """

    label: str
    client: str
    user: str

"""The managed objects of a simulated vCenter's inventory, with their properties."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final

from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.machine import VirtualMachine
from esxiproxy.sim.vcenter import schema, soap_faults
from esxiproxy.sim.vcenter.soap import Literal, Ref, Several, Since, Structure, Typed, Value, structure

GUEST: Final = "Debian GNU/Linux 12 (64-bit)"


class SimulatedPower(Enum):
    """The power state of a machine; the value is vSphere's word."""

    ON = "poweredOn"
    OFF = "poweredOff"
    SUSPENDED = "suspended"


class ManagedObject:
    """An object with a reference and properties, which are computed when they are read."""

    def __init__(self, ref: Ref) -> None:
        self.ref = ref

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        """Return the properties that are set, by name."""
        return {}

    def read(self, path: str) -> Value:
        """Return a property's value, or None if it is not set. Raises VimFault for an unknown path."""
        if not schema.exists(self.ref.type, path):
            raise soap_faults.invalid_property(path)
        first, *rest = path.split(".")
        compute = self.properties().get(first)
        value = None if compute is None else compute()
        for part in rest:
            while isinstance(value, Typed | Since):
                value = value.value
            value = value.field(part) if isinstance(value, Structure) else None
        return value


class Entity(ManagedObject):
    """An object of the inventory tree: it has a name and a parent."""

    def __init__(self, ref: Ref, name: str, parent: Entity | None) -> None:
        super().__init__(ref)
        self.name = name
        self.parent = parent

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {
            "name": lambda: self.name,
            "parent": lambda: None if self.parent is None else self.parent.ref,
            "overallStatus": lambda: Literal("ManagedEntityStatus", "green"),
        }

    def children(self) -> tuple[Entity, ...]:
        """Return the objects directly below."""
        return ()


class FolderObject(Entity):
    """A folder of machines, hosts, datacenters or other folders."""

    def __init__(self, ref: Ref, name: str, parent: Entity | None) -> None:
        super().__init__(ref, name, parent)
        self.entities: dict[Ref, Entity] = {}

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {**super().properties(), "childEntity": lambda: _refs(self.entities.values())}

    def children(self) -> tuple[Entity, ...]:
        return tuple(self.entities.values())


class DatacenterObject(Entity):
    """A datacenter, with its hidden folders for machines and hosts."""

    def __init__(self, ref: Ref, name: str, parent: Entity, machines: Ref, hosts: Ref) -> None:
        super().__init__(ref, name, parent)
        self.machines = FolderObject(machines, "vm", self)
        self.hosts = FolderObject(hosts, "host", self)

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        own = {"vmFolder": lambda: self.machines.ref, "hostFolder": lambda: self.hosts.ref}
        return {**super().properties(), **own}

    def children(self) -> tuple[Entity, ...]:
        return (self.machines, self.hosts)


class ComputeObject(Entity):
    """The object between a folder and a host."""

    def __init__(self, ref: Ref, name: str, parent: Entity) -> None:
        super().__init__(ref, name, parent)
        self.hosts: list[HostObject] = []

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {**super().properties(), "host": lambda: _refs(self.hosts)}

    def children(self) -> tuple[Entity, ...]:
        return tuple(self.hosts)


class HostObject(Entity):
    """A host of the inventory, whose consoles are those of a simulated ESXi host."""

    def __init__(self, ref: Ref, name: str, parent: Entity, esxi: SimulatedHost) -> None:
        super().__init__(ref, name, parent)
        self.esxi = esxi
        self.connected = True
        self.machines: dict[Ref, MachineObject] = {}

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {
            **super().properties(),
            "vm": lambda: _refs(self.machines.values()),
            "runtime": self._runtime,
            "summary": self._summary,
        }

    def _runtime(self) -> Structure:
        state = "connected" if self.connected else "disconnected"
        return structure(
            "HostRuntimeInfo",
            connectionState=Literal("HostSystemConnectionState", state),
            powerState=Literal("HostSystemPowerState", "poweredOn" if self.connected else "unknown"),
            inMaintenanceMode=False,
        )

    def _summary(self) -> Structure:
        certificate = self.esxi.certificate
        config = structure(
            "HostConfigSummary",
            name=self.name,
            port=443,
            sslThumbprint=certificate.sha1,
            sslCertificate=Since((9, 0), certificate.pem),
            vmotionEnabled=True,
            faultToleranceEnabled=False,
        )
        status = Literal("ManagedEntityStatus", "green")
        return structure(
            "HostListSummary",
            host=self.ref,
            runtime=self._runtime(),
            config=config,
            quickStats=structure("HostListSummaryQuickStats"),
            overallStatus=status,
            rebootRequired=False,
        )


class MachineObject(Entity):
    """A virtual machine of the inventory. Its picture is made when its first console opens."""

    def __init__(
        self,
        ref: Ref,
        name: str,
        parent: Entity,
        host: HostObject,
        uuid: str,
        make_console: Callable[[str], VirtualMachine],
    ) -> None:
        super().__init__(ref, name, parent)
        self.host = host
        self.uuid = uuid
        self.power = SimulatedPower.ON
        self.tags: set[str] = set()
        self.max_consoles: int | None = 40
        self.template = False
        self.accessible = True
        self.tools = True
        self.hidden: frozenset[str] = frozenset()
        """Properties that the account may not read."""
        self._make_console = make_console
        self._console: VirtualMachine | None = None

    @property
    def console(self) -> VirtualMachine:
        """The machine's screen and its viewers."""
        if self._console is None:
            self._console = self._make_console(self.name)
        return self._console

    @property
    def viewers(self) -> int:
        """The number of open consoles."""
        return 0 if self._console is None else self._console.viewers

    def end_consoles(self, code: int, reason: str) -> None:
        """Close the machine's consoles."""
        if self._console is not None:
            self._console.end_all(code, reason)

    def revoke_tickets(self) -> None:
        """Make the tickets invalid that the machine's host has issued for it."""
        if self._console is not None:
            console = self._console
            self.host.esxi.tickets.revoke(lambda grant: grant.machine is console)

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {
            **super().properties(),
            "runtime": self._runtime,
            "config": self._config,
            "guest": self._guest,
            "summary": self._summary,
        }

    @property
    def connection_state(self) -> str:
        """vSphere's word for whether vCenter reaches the machine."""
        if not self.host.connected:
            return "disconnected"
        return "connected" if self.accessible else "inaccessible"

    def _runtime(self) -> Structure:
        return structure(
            "VirtualMachineRuntimeInfo",
            host=self.host.ref,
            connectionState=Literal("VirtualMachineConnectionState", self.connection_state),
            powerState=Literal("VirtualMachinePowerState", self.power.value),
            faultToleranceState=Literal("VirtualMachineFaultToleranceState", "notConfigured"),
            toolsInstallerMounted=False,
            numMksConnections=self.viewers,
            recordReplayState=Literal("VirtualMachineRecordReplayState", "inactive"),
            onlineStandby=False,
            consolidationNeeded=False,
        )

    def _config(self) -> Structure | None:
        if not self.accessible:
            return None
        return structure(
            "VirtualMachineConfigInfo",
            name=self.name,
            guestFullName=GUEST,
            version="vmx-20",
            uuid=f"42{self.uuid[2:]}",
            instanceUuid=self.uuid,
            template=self.template,
            guestId="debian12_64Guest",
            maxMksConnections=None if self.max_consoles is None else Since((4, 0), self.max_consoles),
        )

    def _guest(self) -> Structure:
        running = self.tools and self.power is SimulatedPower.ON
        return structure(
            "GuestInfo",
            toolsStatus=Literal("VirtualMachineToolsStatus", "toolsOk" if running else "toolsNotRunning"),
            toolsRunningStatus="guestToolsRunning" if running else "guestToolsNotRunning",
            guestFullName=GUEST if running else None,
            guestState="running" if running else "notRunning",
        )

    def _summary(self) -> Structure:
        config = structure(
            "VirtualMachineConfigSummary",
            name=self.name,
            template=self.template,
            vmPathName=f"[datastore1] {self.ref.moid}/{self.ref.moid}.vmx",
            uuid=f"42{self.uuid[2:]}",
            instanceUuid=self.uuid,
        )
        return structure(
            "VirtualMachineSummary",
            vm=self.ref,
            runtime=self._runtime(),
            config=config,
            quickStats=structure("VirtualMachineQuickStats"),
            overallStatus=Literal("ManagedEntityStatus", "green"),
        )


def _refs(entities: Iterable[Entity]) -> Several:
    return Several("ManagedObjectReference", tuple(entity.ref for entity in entities))

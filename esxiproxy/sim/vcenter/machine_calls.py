"""The calls on a simulated vCenter's machines: tickets, consoles, power, moves and the screen's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from esxiproxy.sim import certificate
from esxiproxy.sim.address import is_wildcard, url_host
from esxiproxy.sim.vcenter import soap_faults
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import HostObject, MachineObject, SimulatedPower
from esxiproxy.sim.vcenter.options import TicketParts
from esxiproxy.sim.vcenter.session_calls import Call
from esxiproxy.sim.vcenter.sessions import VCenterSession
from esxiproxy.sim.vcenter.soap import ReceivedCall, Ref, Several, Since, Structure, structure
from esxiproxy.sim.vcenter.tasks import Tasks

TICKET_TYPES: Final = frozenset(
    {"mks", "device", "guestControl", "dnd", "webmks", "guestIntegrity", "webRemoteDevice"}
)
MOVED: Final = (1001, "the virtual machine was moved to another host")
POWERED_OFF: Final = (1001, "the virtual machine was powered off")
DROPPED: Final = (1001, "the connection was closed by DropConnections")
MAX_SCREEN: Final = 4096


class MachineCalls:
    """The calls of the type VirtualMachine. `parts` says what the next tickets have."""

    def __init__(self, inventory: SimulatedInventory, tasks: Tasks, parts: frozenset[str]) -> None:
        self.parts = parts
        self.tickets = 0
        self._inventory = inventory
        self._tasks = tasks
        self._wrong: certificate.Certificate | None = None
        self.calls: Mapping[tuple[str, str], Call] = {
            ("VirtualMachine", "AcquireTicket"): self._acquire_ticket,
            ("VirtualMachine", "AcquireMksTicket"): self._acquire_mks_ticket,
            ("VirtualMachine", "QueryConnections"): self._query_connections,
            ("VirtualMachine", "DropConnections"): self._drop_connections,
            ("VirtualMachine", "PowerOnVM_Task"): self._power_on,
            ("VirtualMachine", "PowerOffVM_Task"): self._power_off,
            ("VirtualMachine", "RelocateVM_Task"): self._relocate,
            ("VirtualMachine", "MigrateVM_Task"): self._migrate,
            ("VirtualMachine", "SetScreenResolution"): self._set_resolution,
        }

    def set_power(self, machine: MachineObject, power: SimulatedPower) -> None:
        """Set a machine's power state; without power its consoles are closed."""
        machine.power = power
        if power is not SimulatedPower.ON:
            machine.revoke_tickets()
            machine.end_consoles(*POWERED_OFF)
        self._inventory.changed(machine.ref)

    def move(self, machine: MachineObject, host: HostObject) -> None:
        """Move a machine to another host, whose tickets are the only valid ones from then on."""
        self._inventory.move_machine(machine, host, *MOVED)

    def _machine(self, call: ReceivedCall) -> MachineObject:
        return self._inventory.machines[call.target]

    def _running(self, call: ReceivedCall) -> MachineObject:
        machine = self._machine(call)
        _check_running(machine)
        return machine

    def _acquire_ticket(self, call: ReceivedCall, session: VCenterSession) -> Structure:
        kind = call.arguments.text("ticketType")
        if kind not in TICKET_TYPES:
            raise soap_faults.invalid_argument("ticketType")
        machine = self._running(call)
        if kind != "webmks":
            raise soap_faults.not_supported(f"The simulated vCenter has no tickets of type {kind}.")
        ticket, url = self.issue(machine, session.user)
        esxi, port = machine.host.esxi, machine.host.esxi.tls_port
        identity = self._wrong_certificate if TicketParts.WRONG in self.parts else esxi.certificate
        # A client takes the address of vCenter for a host without one.
        address = None if is_wildcard(esxi.options.interface) else esxi.options.interface
        print_of = structure(
            "VirtualMachineCertThumbprint", thumbprint=identity.sha256, hashAlgorithm="sha256"
        )

        def part(name: str, value: str | int | Several | None) -> str | int | Several | None:
            return value if name in self.parts else None

        prints = Several("VirtualMachineCertThumbprint", (print_of,))
        return structure(
            "VirtualMachineTicket",
            ticket=ticket,
            cfgFile=f"/vmfs/volumes/datastore1/{machine.ref.moid}/{machine.ref.moid}.vmx",
            host=part(TicketParts.HOST, address),
            port=part(TicketParts.HOST, port or 443),
            sslThumbprint=part(TicketParts.SHA1, identity.sha1),
            certThumbprintList=Since((7, 0, 3, 1), part(TicketParts.SHA256, prints)),
            sslCertificate=Since((9, 0, 0, 0), part(TicketParts.PEM, identity.pem)),
            url=Since((7, 0), part(TicketParts.URL, url)),
        )

    def _acquire_mks_ticket(self, call: ReceivedCall, session: VCenterSession) -> Structure:
        """Return a ticket of the older kind, whose host takes it by WebSocket."""
        machine = self._machine(call)
        ticket, _ = self.issue(machine, session.user)
        esxi = machine.host.esxi
        return structure(
            "VirtualMachineMksTicket",
            ticket=ticket,
            cfgFile=f"/vmfs/volumes/datastore1/{machine.ref.moid}/{machine.ref.moid}.vmx",
            host=None if is_wildcard(esxi.options.interface) else esxi.options.interface,
            port=esxi.tls_port or 443,
            sslThumbprint=esxi.certificate.sha1,
        )

    def issue(self, machine: MachineObject, user: str) -> tuple[str, str]:
        """Return a new ticket of a machine, and the URL of its console. Raises VimFault."""
        _check_running(machine)
        if machine.max_consoles is not None and machine.viewers >= machine.max_consoles:
            raise soap_faults.limit_reached(machine.max_consoles)
        self.tickets += 1
        esxi = machine.host.esxi
        ticket = esxi.issue_ticket(machine.console, user)
        return ticket, f"wss://{url_host(esxi.options.interface)}:{esxi.tls_port}/ticket/{ticket}"

    @property
    def _wrong_certificate(self) -> certificate.Certificate:
        if self._wrong is None:
            self._wrong = certificate.make()
        return self._wrong

    def _query_connections(self, call: ReceivedCall, session: VCenterSession) -> Several:
        machine = self._machine(call)
        consoles = machine.console.consoles if machine.viewers else {}
        return Several(
            "VirtualMachineConnection",
            tuple(
                structure("VirtualMachineMksConnection", label=label, client=each.client, userName=each.user)
                for label, each in consoles.items()
            ),
            typed=True,
        )

    def _drop_connections(self, call: ReceivedCall, session: VCenterSession) -> bool:
        machine = self._machine(call)
        labels = {each.text("label") for each in call.arguments.children("listOfConnections")}
        dropped = False
        for label, viewer in machine.console.consoles.items() if machine.viewers else ():
            if label in labels:
                viewer.end(*DROPPED)
                dropped = True
        return dropped

    def _power_on(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        return self._power(call, SimulatedPower.ON)

    def _power_off(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        return self._power(call, SimulatedPower.OFF)

    def _power(self, call: ReceivedCall, wanted: SimulatedPower) -> Ref:
        machine = self._machine(call)
        if not machine.host.connected:
            raise soap_faults.host_not_connected()

        def operate() -> None:
            if machine.power is wanted:
                raise soap_faults.invalid_power_state(wanted.value, wanted.value)
            self.set_power(machine, wanted)

        return self._tasks.start(call.method, machine, operate)

    def _relocate(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        spec = call.arguments.child("spec")
        host = None if spec is None else spec.child("host")
        if host is None:
            raise soap_faults.invalid_argument("spec.host")
        return self._move(call, host.ref)

    def _migrate(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        host = call.arguments.child("host")
        if host is None:
            raise soap_faults.invalid_argument("host")
        return self._move(call, host.ref)

    def _move(self, call: ReceivedCall, to: Ref) -> Ref:
        machine, host = self._machine(call), self._inventory.hosts.get(to)
        if host is None:
            raise soap_faults.not_found(to)
        if not host.connected or not machine.host.connected:
            raise soap_faults.host_not_connected()
        return self._tasks.start(call.method, machine, lambda: self.move(machine, host))

    def _set_resolution(self, call: ReceivedCall, session: VCenterSession) -> None:
        machine = self._running(call)
        if not machine.tools:
            raise soap_faults.tools_unavailable()
        width, height = call.arguments.number("width"), call.arguments.number("height")
        for name, size in (("width", width), ("height", height)):
            if size is None or not 64 <= size <= MAX_SCREEN:
                raise soap_faults.invalid_argument(name)
        assert width is not None and height is not None
        machine.console.resize(width, height)


def _check_running(machine: MachineObject) -> None:
    if not machine.host.connected:
        raise soap_faults.host_not_connected()
    if machine.power is not SimulatedPower.ON:
        raise soap_faults.invalid_power_state(machine.power.value)

"""The control port of a simulated vCenter: JSON over plain HTTP on loopback that changes the simulation.

GET /state, POST /machines, PATCH and DELETE /machines/KEY, PATCH /hosts/KEY, POST and DELETE /faults,
DELETE /sessions, PATCH /tickets, POST /certificate, POST /stop and POST /start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from esxiproxy.sim.certificate import Certificate
from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.vcenter.demands import Demand
from esxiproxy.sim.vcenter.endpoint import SoapEndpoint
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.machine_calls import MachineCalls
from esxiproxy.sim.vcenter.objects import DatacenterObject, Entity, HostObject, MachineObject, SimulatedPower
from esxiproxy.sim.vcenter.options import ticket_parts
from esxiproxy.sim.vcenter.sessions import SessionStore
from esxiproxy.sim.vcenter.site import JSON, QuietSite
from esxiproxy.sim.vcenter.soap_faults import VimFault

POWER: Final = {"on": SimulatedPower.ON, "off": SimulatedPower.OFF, "suspended": SimulatedPower.SUSPENDED}


class VCenter(Protocol):
    """The simulated vCenter as its control port uses it."""

    certificate: Certificate
    connections: Any
    hosts: list[SimulatedHost]
    inventory: SimulatedInventory
    machines: MachineCalls
    sessions: SessionStore
    soap: SoapEndpoint

    def change_certificate(self) -> None:
        """Present a new certificate."""

    def start_listening(self) -> None:
        """Open the HTTPS port."""

    def stop_listening(self) -> Deferred[Any]:
        """Close the HTTPS port."""


class ControlError(ValueError):
    """Raised for a request that cannot be carried out; its text is the answer."""


class ControlResource(Resource):
    """All paths of the control port."""

    isLeaf = True

    def __init__(self, vcenter: VCenter) -> None:
        super().__init__()
        self._vcenter = vcenter
        self._calls: Mapping[tuple[str, str], Callable[[str, dict[str, Any]], Any]] = {
            ("GET", "state"): lambda key, body: self.state(),
            ("POST", "machines"): self._add_machine,
            ("PATCH", "machines"): self._change_machine,
            ("DELETE", "machines"): self._remove_machine,
            ("PATCH", "hosts"): self._change_host,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): lambda key, body: vcenter.soap.demands.clear(),
            ("DELETE", "sessions"): lambda key, body: {"ended": vcenter.sessions.end_all()},
            ("PATCH", "sessions"): self._change_password,
            ("PATCH", "tickets"): self._change_tickets,
            ("POST", "certificate"): self._change_certificate,
            ("POST", "stop"): self._stop,
            ("POST", "start"): lambda key, body: vcenter.start_listening(),
        }

    def render(self, request: Request) -> bytes:
        _, name, *rest = request.path.decode("utf-8", "replace").split("/", 2)
        call = self._calls.get((request.method.decode("latin-1"), name))
        content = request.content
        assert content is not None
        request.setHeader("Content-Type", JSON)
        try:
            if call is None:
                raise ControlError("the control port has no such method and path")
            value = json.loads(content.read() or b"{}")
            if not isinstance(value, dict):
                raise ControlError("the request's body is no JSON object")
            result = call(rest[0] if rest else "", value)
        except (ValueError, TypeError, VimFault) as error:
            request.setResponseCode(400)
            result = {"error": str(error)}
        return json.dumps(result).encode() + b"\n"

    def state(self) -> dict[str, Any]:
        """Return the counters, and the machines with their hosts."""
        vcenter = self._vcenter
        sessions = vcenter.sessions
        return {
            "sessions": len(sessions),
            "logins": sessions.logins,
            "failed_logins": sessions.failed_logins,
            "logouts": sessions.logouts,
            "locked": sessions.locked,
            "tickets": vcenter.machines.tickets,
            "calls": dict(vcenter.soap.counts),
            "connections": len(vcenter.connections),
            "hosts": {
                each.name: {
                    "moid": each.ref.moid,
                    "address": each.esxi.options.interface,
                    "port": each.esxi.tls_port,
                    "sha256": each.esxi.certificate.sha256,
                    "connected": each.connected,
                    **each.esxi.stats(),
                    "consoles": sum(machine.viewers for machine in each.machines.values()),
                }
                for each in vcenter.inventory.hosts.values()
            },
            "machines": [_describe(machine) for machine in vcenter.inventory.machines.values()],
        }

    def _machine(self, key: str) -> MachineObject:
        machine = self._vcenter.inventory.find_machine(key)
        if machine is None:
            raise ControlError(f"there is no machine {key!r}")
        return machine

    def _host(self, key: str) -> HostObject:
        host = self._vcenter.inventory.find_host(key)
        if host is None:
            raise ControlError(f"there is no host {key!r}")
        return host

    def _datacenter(self, entity: Entity) -> DatacenterObject:
        while entity.parent is not None:
            if isinstance(entity, DatacenterObject):
                return entity
            entity = entity.parent
        raise ControlError("the host is in no datacenter")

    def _add_machine(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        inventory = self._vcenter.inventory
        host = self._host(body.pop("host")) if "host" in body else next(iter(inventory.hosts.values()))
        folder = inventory.folder(self._datacenter(host), body.pop("folder", "/"))
        name, uuid = body.pop("name"), body.pop("uuid", None)
        machine = inventory.add_machine(name, folder, host, instance_uuid=uuid)
        return self._change(machine, body)

    def _change_machine(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._change(self._machine(key), body)

    def _change(self, machine: MachineObject, body: dict[str, Any]) -> dict[str, Any]:
        vcenter = self._vcenter
        for name, value in body.items():
            match name:
                case "power":
                    if value not in POWER:
                        raise ControlError(f"power is one of {', '.join(POWER)}")
                    vcenter.machines.set_power(machine, POWER[value])
                case "host":
                    vcenter.machines.move(machine, self._host(value))
                case "folder":
                    datacenter = self._datacenter(machine.host)
                    folder = vcenter.inventory.folder(datacenter, value)
                    vcenter.inventory.move_to_folder(machine, folder)
                case "tags":
                    machine.tags = set(value)
                case "hidden":
                    machine.hidden = frozenset(value)
                case "name" | "uuid" | "max_consoles" | "template" | "accessible" | "tools":
                    setattr(machine, name, value)
                case _:
                    raise ControlError(f"a machine has no {name!r}")
        vcenter.inventory.changed(machine.ref)
        return _describe(machine)

    def _remove_machine(self, key: str, body: dict[str, Any]) -> None:
        self._vcenter.inventory.remove_machine(self._machine(key))

    def _change_host(self, key: str, body: dict[str, Any]) -> None:
        host = self._host(key)
        host.connected = bool(body["connected"])
        self._vcenter.inventory.changed(host.ref)
        for ref in tuple(host.machines):
            self._vcenter.inventory.changed(ref)

    def _add_fault(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if "machine" in body:
            body["machine"] = self._machine(body["machine"]).ref.moid
        demand = Demand(**body)
        self._vcenter.soap.demands.add(demand)
        return asdict(demand)

    def _change_password(self, key: str, body: dict[str, Any]) -> None:
        self._vcenter.sessions.password = str(body["password"])

    def _change_tickets(self, key: str, body: dict[str, Any]) -> None:
        self._vcenter.machines.parts = ticket_parts(str(body["parts"]))

    def _change_certificate(self, key: str, body: dict[str, Any]) -> dict[str, str]:
        self._vcenter.change_certificate()
        made = self._vcenter.certificate
        return {"sha256": made.sha256, "sha1": made.sha1, "pem": made.pem}

    def _stop(self, key: str, body: dict[str, Any]) -> None:
        self._vcenter.stop_listening()


def make_control(vcenter: VCenter) -> Site:
    """Return the site of the control port."""
    return QuietSite(ControlResource(vcenter))


def _describe(machine: MachineObject) -> dict[str, Any]:
    return {
        "moid": machine.ref.moid,
        "uuid": machine.uuid,
        "name": machine.name,
        "host": machine.host.name,
        "power": next(name for name, power in POWER.items() if power is machine.power),
        "tags": sorted(machine.tags),
        "consoles": machine.viewers,
    }

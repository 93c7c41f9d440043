"""Finds machines and acquires tickets for routers, in the admin process.

The rules of the router's section are applied here again, whatever the process that asks has applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.core.access import AccessRules, Right
from esxiproxy.core.config.model import Config
from esxiproxy.core.console_tickets import (
    MACHINE_PATH,
    TICKET_PATH,
    AcquiredTicket,
    FoundMachine,
    MachineQuestion,
    fault_answer,
    machine_answer,
    ticket_answer,
)
from esxiproxy.core.errors import (
    Internal,
    MachineAmbiguous,
    MachineHidden,
    MachineNotFound,
    SessionError,
    VSphereUnavailable,
)
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine
from esxiproxy.vsphere.service import VSphereService

READING_TIMEOUT = 3.0
"""Seconds that a question waits for machines that are being read, after the process has started."""
_READING_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class RouterScope:
    """The machines that one router leads to: the names of its vCenters, and its rules."""

    vspheres: tuple[str, ...]
    rules: AccessRules


def scopes_of(config: Config) -> Mapping[str, RouterScope]:
    """Return the scopes of the routers of the type ``vsphere``, by their names."""
    found = {}
    for name, router in config.routers.items():
        if router.type.name == "vsphere":
            rules = AccessRules(config.access[each] for each in router.settings["access"])
            found[name] = RouterScope(router.settings["vsphere"], rules)
    return found


class ConsoleTickets:
    """The answers to questions for machines and tickets.

    ``scopes`` are those of the routers, by their names.  A question waits for machines that are being read
    for the first time.
    """

    _log = Logger()

    def __init__(
        self, vsphere: VSphereService, scopes: Mapping[str, RouterScope], clock: IReactorTime
    ) -> None:
        self._vsphere = vsphere
        self._clock = clock
        self._scopes = scopes

    async def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and JSON of the answer to a question on a path.

        It fails only when it is cancelled.
        """
        try:
            question = MachineQuestion.read(body)
        except (ValueError, RecursionError):
            return 400, fault_answer(Internal("the question is not valid"))
        try:
            if path == MACHINE_PATH:
                return 200, machine_answer(FoundMachine.of(await self._find(question)))
            if path == TICKET_PATH:
                return 200, await self._acquire(question)
        except SessionError as error:
            return error.status_code, fault_answer(error)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("cannot answer a question for a machine")
            return 500, fault_answer(Internal("the admin process failed"))
        return 404, fault_answer(Internal("there is no such path"))

    async def _acquire(self, question: MachineQuestion) -> bytes:
        machine = await self._find(question)
        issued = await self._vsphere.acquire_ticket(machine)
        ticket = AcquiredTicket(issued.ticket, issued.host, issued.port, issued.certificate, issued.pins)
        return ticket_answer(FoundMachine.of(machine), ticket)

    async def _find(self, question: MachineQuestion) -> Machine:
        end = self._clock.seconds() + READING_TIMEOUT
        while True:
            try:
                return self._find_now(question)
            except _BeingRead:
                if self._clock.seconds() >= end:
                    raise VSphereUnavailable("the machines are not read yet") from None
            await deferLater(self._clock, _READING_INTERVAL)

    def _find_now(self, question: MachineQuestion) -> Machine:
        """Return the one machine that a question means and whose console its principal may open.

        A name that other machines have too is unambiguous as long as the principal may open one of them only.
        Raises MachineNotFound, MachineHidden, MachineAmbiguous, or _BeingRead or VSphereUnavailable while the
        machines of a vCenter in question are not known.
        """
        scope = self._scopes.get(question.router)
        if scope is None:
            raise MachineNotFound
        section, slash, uuid = question.machine.partition("/")
        names = [name for name in ((section,) if slash else scope.vspheres) if name in scope.vspheres]
        inventories = [self._vsphere.inventories[name] for name in names if name in self._vsphere.inventories]
        rules = scope.rules.of(question.principal)
        found = list(_machines(inventories, uuid if slash else question.machine, by_name=not slash))
        mine = [machine for machine in found if Right.OPEN in rules.rights_to(machine)]
        if len(mine) > 1:
            raise MachineAmbiguous(f"{len(mine)} virtual machines have this name: ask for VSPHERE/UUID")
        if mine:
            return mine[0]
        unknown = [inventory for inventory in inventories if not inventory.ready]
        for inventory in unknown:
            if inventory.problem is not None:
                raise VSphereUnavailable(inventory.problem)
        if unknown:
            raise _BeingRead
        if found:
            raise MachineHidden(f"no rule lets {question.principal.name} open {found[0].id}")
        raise MachineNotFound


class _BeingRead(Exception):
    """The machines of a vCenter in question are being read for the first time."""


def _machines(inventories: list[Inventory], text: str, by_name: bool) -> Iterator[Machine]:
    """Yield the machines with a UUID, or else those with a name."""
    uuid = text.lower()
    found = [inventory.machines[uuid] for inventory in inventories if uuid in inventory.machines]
    if found or not by_name:
        yield from found
        return
    for inventory in inventories:
        yield from (machine for machine in inventory.machines.values() if machine.name == text)

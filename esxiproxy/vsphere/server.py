"""One vCenter or ESXi host: its login, its machines, and the calls for one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote
from xml.etree.ElementTree import Element

from twisted.internet.defer import DeferredLock, DeferredSemaphore
from twisted.internet.task import deferLater

from esxiproxy.core.config.vsphere import VSphere
from esxiproxy.core.errors import ServiceUnavailable, SessionError, VSphereUnavailable
from esxiproxy.interfaces import IHttpClient
from esxiproxy.vsphere import calls
from esxiproxy.vsphere.answers import console_ticket, machine_connections
from esxiproxy.vsphere.console_ticket import ConsoleTicket
from esxiproxy.vsphere.faults import error_of
from esxiproxy.vsphere.inventory import Inventory
from esxiproxy.vsphere.machine import Machine, MachineConnection
from esxiproxy.vsphere.machine_index import MachineIndex
from esxiproxy.vsphere.refused_password import RefusedPassword
from esxiproxy.vsphere.session import VSphereSession
from esxiproxy.vsphere.soap import SoapCall, SoapFault
from esxiproxy.vsphere.stops import stop_all
from esxiproxy.vsphere.tags import TagReader
from esxiproxy.vsphere.watch import InventoryWatch
from esxiproxy.vsphere.xml_tree import InvalidAnswer

T = TypeVar("T")

TICKETS_AT_ONCE = 3
"""Maximum number of tickets that are acquired at once.  vCenter shares its connections with others."""
CALLS_AT_ONCE = 2
"""Maximum number of other calls that run at once, beside the watch: no ticket waits for them."""
MAX_WAITING = 1000
"""Maximum number of tickets, and of other calls, that wait."""
MAX_PICTURE = 8 << 20
PICTURE_INTERVAL = 0.5
"""Seconds between two pictures of screens."""
MAX_PICTURE_WAIT = 10.0
_PNG = b"\x89PNG\r\n\x1a\n"


class VSphereServer:
    """One section [vsphere NAME]."""

    def __init__(self, vsphere: VSphere, http: IHttpClient, clock: Any) -> None:
        self._vsphere = vsphere
        self._clock = clock
        self.inventory = Inventory(vsphere.name)
        index = MachineIndex(self.inventory)
        refused = RefusedPassword()
        self._session = VSphereSession(vsphere, http, clock, refused)
        self._watch = InventoryWatch(self._session, index, clock)
        self._tags = (
            TagReader(vsphere, http, clock, self._is_vcenter, index.tag, refused) if vsphere.tags else None
        )
        self._tickets = DeferredSemaphore(TICKETS_AT_ONCE)
        self._calls = DeferredSemaphore(CALLS_AT_ONCE)
        self._pictures = DeferredLock()
        self._next_picture = 0.0

    def start(self) -> None:
        """Log in, and begin to watch the machines."""
        self._watch.start()
        if self._tags is not None:
            self._tags.start()

    async def stop(self) -> None:
        """End the watch and log out."""
        self._watch.stop()
        stopping = [self._session.stop()] if self._tags is None else [self._session.stop(), self._tags.stop()]
        await stop_all(stopping)

    async def acquire_ticket(self, machine: Machine) -> ConsoleTicket:
        """Return a new ticket for a console of the machine."""
        answer = await self._call(calls.acquire_ticket(self._moid(machine)), self._tickets)
        return self._read(lambda: console_ticket(answer, self._vsphere.host))

    async def connections(self, machine: Machine) -> Sequence[MachineConnection]:
        """Return the consoles that are open on the machine."""
        answer = await self._call(calls.query_connections(self._moid(machine)))
        return machine_connections(answer)

    async def drop_connections(self, machine: Machine, labels: Iterable[str]) -> None:
        """Close the consoles with these labels."""
        wanted = set(labels)
        dropped = [each for each in await self.connections(machine) if each.label in wanted]
        if dropped:
            await self._call(calls.drop_connections(self._moid(machine), dropped))

    async def power_on(self, machine: Machine) -> None:
        """Begin to power the machine on, if it is not on already."""
        call = calls.power_on(self._moid(machine))
        try:
            await self._try(call, self._calls)
        except SoapFault as fault:
            if fault.name == "InvalidPowerState" and fault.state == "poweredOn":
                return
            raise error_of(fault, self._vsphere.name, call.method) from None

    async def set_resolution(self, machine: Machine, width: int, height: int) -> None:
        """Set the size of the guest's screen."""
        await self._call(calls.set_screen_resolution(self._moid(machine), width, height))

    async def thumbnail(self, machine: Machine) -> bytes:
        """Return a picture of the machine's screen.  Pictures are requested one after the other."""
        now = self._clock.seconds()
        begin = max(now, self._next_picture)
        if begin - now > MAX_PICTURE_WAIT:
            raise VSphereUnavailable(f"[vsphere {self._vsphere.name}] too many pictures of screens wait")
        self._next_picture = begin + PICTURE_INTERVAL
        await deferLater(self._clock, begin - now)
        path = f"/screen?id={quote(self._moid(machine), safe='')}"
        await self._pictures.acquire()
        try:
            await self._calls.acquire()
            try:
                answer = await self._session.get(path, MAX_PICTURE)
            finally:
                self._calls.release()
        except ServiceUnavailable as error:
            raise self._unavailable(error) from None
        finally:
            self._pictures.release()
        if answer.status != 200 or not answer.body.startswith(_PNG):
            raise VSphereUnavailable(
                f"[vsphere {self._vsphere.name}] the request for a picture has no picture as its answer "
                f"(status {answer.status})"
            )
        return answer.body

    async def _is_vcenter(self) -> bool:
        try:
            return (await self._session.login()).content.is_vcenter
        except VSphereUnavailable as error:
            raise InvalidAnswer(str(error)) from None

    def _moid(self, machine: Machine) -> str:
        """Return the present id of a machine, which may have been registered again."""
        return self.inventory.machines.get(machine.uuid, machine).moid

    async def _call(self, call: SoapCall, slots: DeferredSemaphore | None = None) -> Element:
        try:
            return await self._try(call, slots or self._calls)
        except SoapFault as fault:
            raise error_of(fault, self._vsphere.name, call.method) from None

    async def _try(self, call: SoapCall, slots: DeferredSemaphore) -> Element:
        """Send a call when one of the slots is free.  Raise SoapFault and VSphereUnavailable."""
        if len(slots.waiting) >= MAX_WAITING:
            raise VSphereUnavailable(f"[vsphere {self._vsphere.name}] {MAX_WAITING} calls wait already")
        await slots.acquire()
        try:
            return await self._session.call(call)
        except (ServiceUnavailable, InvalidAnswer) as error:
            raise self._unavailable(error) from None
        finally:
            slots.release()

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except InvalidAnswer as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> SessionError:
        return VSphereUnavailable(f"[vsphere {self._vsphere.name}] {error}")

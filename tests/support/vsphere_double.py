"""A service of vCenters that a test scripts, and an HTTP client that asks it over no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from esxiproxy.admin.tickets import ConsoleTickets, RouterScope
from esxiproxy.core.access import AccessRule, AccessRules
from esxiproxy.core.config import access as section
from esxiproxy.core.errors import ServiceUnavailable
from esxiproxy.core.thumbprint import Pin
from esxiproxy.interfaces import Answer

TICKET = "cst-VCT-52aa0c3e-9e1d"
"""The ticket that the service issues first; the number of each later one stands behind it."""
WEB, DB = "5012a4ab-0000-4000-8000-000000000001", "5012a4ab-0000-4000-8000-000000000002"


@dataclass(frozen=True)
class Box:
    """A machine of an inventory."""

    uuid: str = WEB
    name: str = "web-01"
    vsphere: str = "dc1"
    folder: str = "/Prod/Web"
    host: str = "192.0.2.10"
    tags: frozenset[str] = frozenset()
    max_consoles: int | None = None

    @property
    def id(self) -> str:
        return f"{self.vsphere}/{self.uuid}"


@dataclass
class Issued:
    """A ticket as the service returns it."""

    ticket: str
    host: str
    port: int = 443
    certificate: bytes | None = None
    pins: tuple[Pin, ...] = ()


@dataclass
class Shelf:
    """The inventory of one vCenter."""

    machines: dict[str, Box] = field(default_factory=dict)
    ready: bool = True
    problem: str | None = None


class ScriptedVSphere:
    """The service: machines that the test moves, and tickets for the host of the moment.

    ``fault`` is raised in place of a ticket, a Deferred in it is awaited before.  ``identity`` has what the
    tickets say about the certificate.
    """

    def __init__(self, *machines: Box) -> None:
        self.inventories = {name: Shelf() for name in ("dc1", "dc2")}
        for machine in machines or (Box(),):
            self.put(machine)
        self.fault: Any = None
        self.identity: dict[str, Any] = {}
        self.asked: list[str] = []

    def put(self, machine: Box) -> None:
        self.inventories[machine.vsphere].machines[machine.uuid] = machine

    async def acquire_ticket(self, machine: Box) -> Issued:
        self.asked.append(machine.id)
        number = len(self.asked)
        if isinstance(self.fault, Deferred):
            await self.fault
        elif self.fault is not None:
            raise self.fault
        host = self.inventories[machine.vsphere].machines[machine.uuid].host
        return Issued(f"{TICKET}{'' if number == 1 else number}", host, **self.identity)


def rules(*texts: tuple[str, str, str]) -> AccessRules:
    """Return rules of triples `who`, `what` and `may`."""
    return AccessRules(
        AccessRule(f"r{number}", frozenset(section.who(who)), section.what(what), section.may(may))
        for number, (who, what, may) in enumerate(texts)
    )


EVERYBODY = (("alice, anonymous", "folder:/Prod/*", "open"),)


def tickets(vsphere: ScriptedVSphere, *texts: tuple[str, str, str], clock: Any = None) -> ConsoleTickets:
    """Return the answers of an admin process whose router `vms` leads to dc1 and dc2."""
    scope = RouterScope(("dc1", "dc2"), rules(*(texts or EVERYBODY)))
    return ConsoleTickets(vsphere, {"vms": scope}, clock or Clock())


class LoopbackHttp:
    """An HTTP client whose requests are answered by the site at once.

    While ``refused`` is above 0, that many connections are refused.  ``lost`` is raised after a request.
    """

    def __init__(self, site: ConsoleTickets) -> None:
        self.site = site
        self.refused = 0
        self.lost: Exception | None = None
        self.requests: list[Any] = []

    async def request(self, method: str, url: str, **more: Any) -> Answer:
        self.requests.append(SimpleNamespace(method=method, url=url, **more))
        if self.refused:
            self.refused -= 1
            error = ServiceUnavailable("tickets.sock cannot be asked: refused")
            raise error from ConnectionRefusedError()
        if self.lost is not None:
            raise ServiceUnavailable(str(self.lost)) from self.lost
        status, body = await self.site.answer(url.removeprefix("http://tickets"), more["body"])
        return Answer(status, (), body)

"""The questions of routers to the admin process about machines and tickets, and its answers, in JSON.

The text of no error has a part of a ticket.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from esxiproxy.core.access import InventoryMachine
from esxiproxy.core.errors import (
    HostNotConnected,
    Internal,
    MachineAmbiguous,
    MachineHidden,
    MachineNotFound,
    MachineNotPermitted,
    MachineNotReady,
    MachinePoweredOff,
    ServiceUnavailable,
    SessionError,
    TooManyConsoles,
    UpstreamUntrusted,
    VSphereUnavailable,
)
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.routing import Principal
from esxiproxy.core.strict_json import strict_json
from esxiproxy.core.thumbprint import Pin

MACHINE_PATH = "/machine"
"""The path of the question for a machine."""
TICKET_PATH = "/ticket"
"""The path of the question for a ticket."""
MAX_ANSWER = 128 << 10
"""Maximum size of an answer in bytes."""
MAX_QUESTION = 64 << 10
"""Maximum size of a question in bytes."""
_TICKET = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]{1,4096}")
_FAULTS: Mapping[str, type[SessionError]] = {
    cls.__name__: cls
    for cls in (
        HostNotConnected,
        MachineAmbiguous,
        MachineHidden,
        MachineNotFound,
        MachineNotPermitted,
        MachineNotReady,
        MachinePoweredOff,
        ServiceUnavailable,
        TooManyConsoles,
        UpstreamUntrusted,
        VSphereUnavailable,
    )
}
"""The errors that an answer may name."""


class ListedMachine(InventoryMachine, Protocol):
    """The properties of a machine that a router needs besides those that rules compare."""

    @property
    def id(self) -> str:
        """The name among the machines of all vCenters, as ``SECTION/UUID``."""

    @property
    def max_consoles(self) -> int | None:
        """The number of consoles that it admits, None for the default of its host."""


@dataclass(frozen=True, slots=True)
class MachineQuestion:
    """A question for a machine, or for a ticket of its console.

    ``router`` is the name of the router, whose section has the rules.  ``machine`` is ``SECTION/UUID``, a
    UUID or a name.  ``principal`` is the one who wants to open the console.
    """

    router: str
    machine: str
    principal: Principal

    def octets(self) -> bytes:
        """Return the question as JSON."""
        principal = self.principal
        asked = {
            "router": self.router,
            "machine": self.machine,
            "principal": principal.name,
            "authenticator": principal.authenticator,
            "groups": sorted(principal.groups),
        }
        return json.dumps(asked, ensure_ascii=True).encode("ascii")

    @classmethod
    def read(cls, octets: bytes) -> MachineQuestion:
        """Return the question in JSON.  Raises ValueError."""
        found = _members(json.loads(octets))
        groups = found.get("groups")
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise ValueError("groups is no list of texts")
        name, section = _text(found, "principal"), _text(found, "authenticator")
        principal = Principal(name, groups=frozenset(groups), authenticator=section)
        return cls(_text(found, "router"), _text(found, "machine"), principal)


@dataclass(frozen=True, slots=True)
class FoundMachine:
    """A machine whose console the principal may open.

    ``id`` is ``SECTION/UUID``, and ``host`` the name of its host, empty while it is unknown.
    ``max_consoles`` is the number of consoles that it admits, None for the default of its host.
    """

    id: str
    name: str
    host: str
    max_consoles: int | None

    @classmethod
    def of(cls, machine: ListedMachine) -> FoundMachine:
        """Return the values of a machine of an inventory."""
        return cls(machine.id, machine.name, machine.host, machine.max_consoles)


@dataclass(frozen=True, slots=True)
class AcquiredTicket:
    """A ticket for one console, and the host that takes it.

    ``certificate`` (DER) or ``pins`` identify the host.  Both are missing if vSphere gave none.
    """

    ticket: str = field(repr=False)
    host: str
    port: int
    certificate: bytes | None = field(default=None, repr=False)
    pins: tuple[Pin, ...] = ()


def machine_answer(machine: FoundMachine) -> bytes:
    """Return the answer to a question for a machine."""
    return json.dumps({"machine": asdict(machine)}).encode("ascii")


def ticket_answer(machine: FoundMachine, ticket: AcquiredTicket) -> bytes:
    """Return the answer to a question for a ticket."""
    certificate = None if ticket.certificate is None else b64encode(ticket.certificate).decode("ascii")
    issued = {
        "ticket": ticket.ticket,
        "host": ticket.host,
        "port": ticket.port,
        "certificate": certificate,
        "pins": [[pin.algorithm, pin.digest] for pin in ticket.pins],
    }
    return json.dumps({"machine": asdict(machine), "issued": issued}).encode("ascii")


def fault_answer(error: SessionError) -> bytes:
    """Return the answer to a question that ended with an error."""
    return json.dumps({"error": error.name, "detail": error.detail, "timeout": error.timeout}).encode("ascii")


def read_machine(status: int, body: bytes) -> FoundMachine:
    """Return the machine in an answer.  Raises the SessionError in it, or ServiceUnavailable."""
    return _machine(_content(status, body))


def read_ticket(status: int, body: bytes) -> tuple[FoundMachine, AcquiredTicket]:
    """Return the machine and the ticket in an answer.  Raises the SessionError in it."""
    found = _content(status, body)
    try:
        issued = _members(found.get("issued"))
        certificate, ticket = issued.get("certificate"), _text(issued, "ticket")
        if not _TICKET.fullmatch(ticket):  # another character would change the target
            raise ValueError
        return _machine(found), AcquiredTicket(
            ticket,
            plain_host(_text(issued, "host")),
            _port(issued.get("port")),
            None if certificate is None else b64decode(certificate, validate=True),
            tuple(Pin(*map(str, pin)) for pin in issued.get("pins", ())),
        )
    except (TypeError, ValueError):
        raise ServiceUnavailable("the ticket of the admin process cannot be used") from None


def _content(status: int, body: bytes) -> Mapping[str, Any]:
    try:
        found = _members(strict_json(body))
    except ValueError:
        raise ServiceUnavailable(f"the admin process answered {status} without JSON") from None
    if status == 200:
        return found
    name, detail = found.get("error"), found.get("detail")
    cls = _FAULTS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise Internal("the admin process failed, and its log has the reason")
    raise cls(detail if isinstance(detail, str) else "")


def _machine(found: Mapping[str, Any]) -> FoundMachine:
    try:
        machine = _members(found.get("machine"))
        consoles = machine.get("max_consoles")
        if consoles is not None and (type(consoles) is not int or consoles < 1):
            consoles = None
        return FoundMachine(_text(machine, "id"), _text(machine, "name"), _text(machine, "host"), consoles)
    except ValueError:
        raise ServiceUnavailable("the machine of the admin process cannot be used") from None


def _members(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is no object")
    return value


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _port(value: Any) -> int:
    if type(value) is not int or not 0 < value < 65536:
        raise ValueError("port is no number from 1 to 65535")
    return value

"""Machines of a scripted vCenter, and the calls that it got."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from types import SimpleNamespace
from typing import Any

from esxiproxy.core.errors import SessionError

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
HOSTILE = (
    "<script>document.title='owned'</script>",
    "\u202egnp.exe\u202c left",
    "a\x00b\x1b[31m\r\nSet-Cookie: x=y",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "\U0001f4a9\u200b\u2066 wide",
)


class PowerState(Enum):
    ON = "on"
    OFF = "off"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class FakeMachine:
    """A machine; `uuid` is that of its number."""

    vsphere: str
    uuid: str
    name: str
    folder: str = "/Prod"
    power: PowerState = PowerState.ON
    host: str = "esxi-secret.example"
    tags: frozenset[str] = frozenset()
    connected: bool = True
    moid: str = "vm-1"
    max_consoles: int | None = None

    @property
    def id(self) -> str:
        return f"{self.vsphere}/{self.uuid}"


def uuid(number: int) -> str:
    return f"5012a4ab-0000-0000-0000-{number:012x}"


def machine(number: int = 1, name: str = "", vsphere: str = "dc1", **more: Any) -> FakeMachine:
    return FakeMachine(vsphere, uuid(number), name or f"web-{number:04d}", **more)


class FakeInventory:
    """The machines of one vCenter; `put` and `remove` change them."""

    def __init__(self, *machines: FakeMachine) -> None:
        self.machines: dict[str, FakeMachine] = {each.uuid: each for each in machines}
        self.ready = True
        self.problem: str | None = None
        self.callbacks: list[Any] = []

    def subscribe(self, callback: Any) -> Any:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def put(self, new: FakeMachine) -> None:
        old = self.machines.get(new.uuid)
        self.machines[new.uuid] = new
        for callback in self.callbacks:
            callback(old, new)

    def remove(self, old: FakeMachine) -> None:
        del self.machines[old.uuid]
        for callback in self.callbacks:
            callback(old, None)


@dataclass
class FakeService:
    """A service for vCenter.  `fails` is raised by each call; `calls` has them."""

    inventories: dict[str, FakeInventory]
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    people: list[Any] = field(default_factory=list)
    fails: SessionError | None = None
    picture: bytes = PNG

    def _call(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fails is not None:
            raise self.fails

    async def connections(self, machine: FakeMachine) -> list[Any]:
        self._call("connections", machine.id)
        return self.people

    async def drop_connections(self, machine: FakeMachine, labels: list[str]) -> None:
        self._call("drop", machine.id, tuple(labels))
        self.people = [each for each in self.people if each.label not in labels]

    async def power_on(self, machine: FakeMachine) -> None:
        self._call("power", machine.id)
        inventory = self.inventories[machine.vsphere]
        inventory.put(replace(inventory.machines[machine.uuid], power=PowerState.ON))

    async def set_resolution(self, machine: FakeMachine, width: int, height: int) -> None:
        self._call("resolution", machine.id, width, height)

    async def thumbnail(self, machine: FakeMachine) -> bytes:
        self._call("thumbnail", machine.id)
        return self.picture


def person(label: str, client: str = "192.0.2.9", user: str = "staff/bob") -> SimpleNamespace:
    return SimpleNamespace(label=label, client=client, user=user)


def rights_by_tag(listener: str, principal: Any, machine: FakeMachine) -> list[SimpleNamespace]:
    """Allow users to open machines without the tag `private`, and operators everything."""
    if "ops" in principal.groups:
        return [SimpleNamespace(value=each) for each in ("open", "power", "disconnect")]
    return [] if "private" in machine.tags else [SimpleNamespace(value="open")]


def scope_by_tag(listener: str, principal: Any) -> bool:
    return "ops" in principal.groups

"""A section [vsphere dc1], its server, and a vCenter in memory."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.core.config.model import Config
from esxiproxy.core.config.vsphere import VSphere
from esxiproxy.core.routing import Identity
from esxiproxy.vsphere.service import VSphereService
from tests.support.scripted_vcenter import PASSWORD, ScriptedVCenter, uuid_of


class Scene:
    """A service with one vCenter, which has been started."""

    def __init__(self, folder: Path, objects: Any = None, tags: bool = False, start: bool = True) -> None:
        self.file = folder / "vc.password"
        self.write(PASSWORD)
        self.clock = Clock()
        self.vcenter = ScriptedVCenter(objects)
        vsphere = VSphere("dc1", "vc.example", 443, "svc", self.file, Identity(), tags)
        config = Config(Path("proxy.ini"), (), {}, vspheres=MappingProxyType({"dc1": vsphere}))
        self.service = VSphereService(config, self.vcenter, self.clock)
        self.inventory = self.service.inventories["dc1"]
        if start:
            self.service.start()
            self.turn()

    def write(self, password: str) -> None:
        self.file.write_text(f"{password}\n")

    def turn(self, seconds: float = 0.0, steps: int = 40) -> None:
        """Let time pass, and everything happen that waits for no time."""
        self.clock.advance(seconds)
        for _ in range(steps):
            self.clock.advance(0.01)

    def machine(self, number: int = 1) -> Any:
        return self.inventory.machines[uuid_of(number)]

    def ask(self, awaitable: Any) -> Outcome:
        return Outcome(awaitable)

    def names(self) -> list[str]:
        return sorted(machine.name for machine in self.inventory.machines.values())


class Outcome:
    """The outcome of a call, which may have to wait."""

    def __init__(self, awaitable: Any) -> None:
        self.deferred = Deferred.fromCoroutine(awaitable)
        self.values: list[Any] = []
        self.deferred.addBoth(self.values.append)

    @property
    def waits(self) -> bool:
        return not self.values

    @property
    def value(self) -> Any:
        (value,) = self.values
        if hasattr(value, "raiseException"):
            value.raiseException()
        return value

    @property
    def error(self) -> Exception:
        (value,) = self.values
        found: Exception = value.value
        return found

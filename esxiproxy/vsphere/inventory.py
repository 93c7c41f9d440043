"""The machines of one vCenter or ESXi host, kept current."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from twisted.logger import Logger

from esxiproxy.vsphere.machine import Machine

MachineChanged = Callable[[Machine | None, Machine | None], None]
"""A call with a machine before and after a change: None before it came, and None after it went."""


class Inventory:
    """The machines of one section [vsphere NAME].

    ``ready`` is whether they were read completely since the start.  ``problem`` is a sentence while they are
    not current, since vSphere cannot be reached, and else None.
    """

    _log = Logger()

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = False
        self.problem: str | None = None
        self._machines: dict[str, Machine] = {}
        self._callbacks: list[MachineChanged] = []

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The machines by their UUID."""
        return MappingProxyType(self._machines)

    def subscribe(self, callback: MachineChanged) -> Callable[[], None]:
        """Call back for each change, with the machine before and after it.

        Return a function that ends the calls.
        """
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def change(self, uuid: str, machine: Machine | None) -> None:
        """Set or remove the machine of a UUID, and report it if that changes anything."""
        old = self._machines.get(uuid)
        if old == machine:
            return
        if machine is None:
            del self._machines[uuid]
        else:
            self._machines[uuid] = machine
        for callback in tuple(self._callbacks):
            try:
                callback(old, machine)
            except Exception:
                self._log.failure("[vsphere {name}] a subscriber of the inventory failed", name=self.name)

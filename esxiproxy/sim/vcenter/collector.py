"""The property collectors of a session: filters, versions and waits for updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.sim.vcenter import soap_faults
from esxiproxy.sim.vcenter.objects import MachineObject, ManagedObject
from esxiproxy.sim.vcenter.selection import FilterSpec, Resolve
from esxiproxy.sim.vcenter.soap import Literal, Ref, Several, Structure, Typed, Value, structure
from esxiproxy.sim.vcenter.soap_faults import VimFault


@dataclass(slots=True, eq=False)
class _Wait:
    answer: Deferred[Structure | None]
    version: str
    limit: int
    timer: IDelayedCall | None = None


class FilterObject(ManagedObject):
    """A filter of a collector, with the values that its client has."""

    def __init__(self, ref: Ref, spec: FilterSpec, resolve: Resolve) -> None:
        super().__init__(ref)
        self.spec = spec
        self._resolve = resolve
        self._generation = -1
        self._selected: dict[Ref, tuple[str, ...]] = {}
        self._reported: dict[Ref, dict[str, Value]] = {}
        self._pending: dict[Ref, None] = {}

    def restart(self) -> None:
        """Forget the values that the client has."""
        self._reported.clear()
        self._pending.clear()
        self._generation = -1

    def mark(self, ref: Ref) -> None:
        """Compare an object with the client's values at the next update."""
        if ref in self._reported or ref in self._selected:
            self._pending[ref] = None

    def updates(self, generation: int, limit: int) -> tuple[list[Structure], bool]:
        """Return at most `limit` updates of objects, and whether there are more."""
        if generation != self._generation:
            self._generation = generation
            self._selected = self.spec.select(self._resolve)
            for ref in self._reported.keys() - self._selected.keys():
                self._pending[ref] = None
            for ref in self._selected:
                if ref not in self._reported:
                    self._pending[ref] = None
        found: list[Structure] = []
        while self._pending and len(found) < limit:
            ref = next(iter(self._pending))
            del self._pending[ref]
            update = self._update(ref)
            if update is not None:
                found.append(update)
        return found, bool(self._pending)

    def _update(self, ref: Ref) -> Structure | None:
        paths, managed = self._selected.get(ref), self._resolve(ref)
        before = self._reported.get(ref)
        if paths is None or managed is None:
            if before is None:
                return None
            del self._reported[ref]
            self._selected.pop(ref, None)
            return _object_update("leave", ref, ())
        values, missing = read_all(managed, paths)
        self._reported[ref] = values
        if before is None:
            return _object_update("enter", ref, _changes(values), missing)
        changed = {
            path: value for path, value in values.items() if path not in before or before[path] != value
        }
        gone: dict[str, Value] = dict.fromkeys(before.keys() - values.keys())
        if not changed and not gone:
            return None
        return _object_update("modify", ref, _changes(changed | gone))


class CollectorObject(ManagedObject):
    """A property collector. `generation` returns the number of the inventory's structure."""

    def __init__(self, ref: Ref, clock: IReactorTime, inventory: Any) -> None:
        super().__init__(ref)
        self.filters: dict[Ref, FilterObject] = {}
        self._clock = clock
        self._inventory = inventory
        self._version = 0
        self._last: tuple[str, Structure] | None = None
        self._waits: list[_Wait] = []
        self._flush: IDelayedCall | None = None

    @property
    def waiting(self) -> bool:
        """Whether a client waits for updates."""
        return bool(self._waits)

    def mark(self, ref: Ref) -> None:
        """Compare an object that has changed with what the clients have."""
        for each in self.filters.values():
            each.mark(ref)
        self.wake()

    def wake(self) -> None:
        """Look for updates in the next turn if a client waits for them."""
        if self._waits and self._flush is None:
            self._flush = self._clock.callLater(0, self._answer_waits)

    def wait(self, version: str, limit: int, seconds: float | None) -> Deferred[Structure | None]:
        """Return the updates since a version, or None after `seconds` without any.

        Raises VimFault for a version that is not the last one, or the one before it.
        """
        if version == "":
            self._last = None
            for each in self.filters.values():
                each.restart()
        elif self._last is not None and version == self._last[0]:
            # The client has lost the last answer: it gets the same again.
            return _fired(self._last[1])
        elif version != str(self._version):
            raise soap_faults.invalid_collector_version()
        wait = _Wait(Deferred(self._forget), version, limit)
        updates = self._updates(wait)
        if updates is not None or seconds == 0:
            return _fired(updates)
        self._waits.append(wait)
        if seconds is not None:
            wait.timer = self._clock.callLater(seconds, self._finish, wait, None)
        return wait.answer

    def cancel(self, fault: VimFault | None = None) -> None:
        """End the waits with a fault, RequestCanceled if none is given."""
        for wait in tuple(self._waits):
            self._finish(wait, fault or soap_faults.request_canceled())

    def _updates(self, wait: _Wait) -> Structure | None:
        left, truncated = wait.limit, False
        filter_updates: list[Structure] = []
        for each in self.filters.values():
            found, more = each.updates(self._inventory.generation, left)
            truncated = truncated or more
            left -= len(found)
            if found:
                objects = Several("ObjectUpdate", tuple(found))
                filter_updates.append(structure("PropertyFilterUpdate", filter=each.ref, objectSet=objects))
        if not filter_updates:
            return None
        self._version += 1
        answer = structure(
            "UpdateSet",
            version=str(self._version),
            filterSet=Several("PropertyFilterUpdate", tuple(filter_updates)),
            truncated=True if truncated else None,
        )
        self._last = (wait.version, answer)
        return answer

    def _answer_waits(self) -> None:
        self._flush = None
        for wait in tuple(self._waits):
            updates = self._updates(wait)
            if updates is not None:
                self._finish(wait, updates)

    def _finish(self, wait: _Wait, result: Structure | VimFault | None) -> None:
        self._waits.remove(wait)
        if wait.timer is not None and wait.timer.active():
            wait.timer.cancel()
        if isinstance(result, VimFault):
            wait.answer.errback(result)
        else:
            wait.answer.callback(result)

    def _forget(self, answer: Deferred[Structure | None]) -> None:
        # The client has gone: a cancelled Deferred ends with its own error.
        for wait in tuple(self._waits):
            if wait.answer is answer:
                self._waits.remove(wait)
                if wait.timer is not None and wait.timer.active():
                    wait.timer.cancel()


def read_all(
    managed: ManagedObject, paths: tuple[str, ...]
) -> tuple[dict[str, Value], tuple[Structure, ...]]:
    """Return the properties that are set, and a MissingProperty for each that may not be read."""
    hidden = managed.hidden if isinstance(managed, MachineObject) else frozenset()
    values: dict[str, Value] = {}
    missing = []
    for path in paths:
        if path in hidden:
            fault = soap_faults.no_permission(managed.ref, "System.Read")
            missing.append(structure("MissingProperty", path=path, fault=fault.localized))
        elif (value := managed.read(path)) is not None:
            values[path] = value
    return values, tuple(missing)


def _changes(values: dict[str, Value]) -> tuple[Structure, ...]:
    assign = Literal("PropertyChangeOp", "assign")
    return tuple(
        structure("PropertyChange", name=path, op=assign, val=None if value is None else Typed(value))
        for path, value in values.items()
    )


def _object_update(
    kind: str, ref: Ref, changes: tuple[Structure, ...], missing: tuple[Structure, ...] = ()
) -> Structure:
    return structure(
        "ObjectUpdate",
        kind=Literal("ObjectUpdateKind", kind),
        obj=ref,
        changeSet=Several("PropertyChange", changes),
        missingSet=Several("MissingProperty", missing),
    )


def _fired(result: Structure | None) -> Deferred[Structure | None]:
    answer: Deferred[Structure | None] = Deferred()
    answer.callback(result)
    return answer

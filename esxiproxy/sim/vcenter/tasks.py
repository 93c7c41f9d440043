"""The tasks of a simulated vCenter: operations that take some time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import Entity, ManagedObject
from esxiproxy.sim.vcenter.soap import Literal, Ref, Structure, Typed, Value, structure
from esxiproxy.sim.vcenter.soap_faults import VimFault

KEPT = 200
"""Finished tasks that stay readable; older ones are forgotten."""


class TaskObject(ManagedObject):
    """One operation on an entity."""

    def __init__(self, ref: Ref, name: str, entity: Entity, started: datetime) -> None:
        super().__init__(ref)
        self.state = "running"
        self.error: VimFault | None = None
        self._name = name
        self._entity = entity
        self._started = started
        self._ended: datetime | None = None

    def finish(self, error: VimFault | None, ended: datetime) -> None:
        """Set the task's result."""
        self.state = "success" if error is None else "error"
        self.error = error
        self._ended = ended

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return {"info": self._info}

    def _info(self) -> Structure:
        return structure(
            "TaskInfo",
            key=self.ref.moid,
            task=self.ref,
            name=self._name,
            descriptionId=f"VirtualMachine.{self._name.removesuffix('VM_Task')}",
            entity=self._entity.ref,
            entityName=self._entity.name,
            state=Literal("TaskInfoState", self.state),
            cancelled=False,
            cancelable=False,
            error=None if self.error is None else self.error.localized,
            progress=100 if self.state == "success" else None,
            reason=Typed(structure("TaskReasonUser", userName="")),
            queueTime=self._started,
            startTime=self._started,
            completeTime=self._ended,
            eventChainId=1,
        )


class Tasks:
    """Runs operations after a time and keeps their tasks readable."""

    def __init__(
        self,
        inventory: SimulatedInventory,
        clock: IReactorTime,
        now: Callable[[], datetime],
        duration: float,
    ) -> None:
        self._now = now
        self.duration = duration
        self._inventory = inventory
        self._clock = clock
        self._numbers = count(1)
        self._finished: list[Ref] = []
        self._calls: dict[Ref, IDelayedCall] = {}

    def start(self, name: str, entity: Entity, operation: Callable[[], None]) -> Ref:
        """Run an operation after the configured time. It raises VimFault to fail."""
        task = TaskObject(Ref("Task", f"task-{next(self._numbers)}"), name, entity, self._now())
        self._inventory.add_object(task)
        self._calls[task.ref] = self._clock.callLater(self.duration, self._run, task, operation)
        return task.ref

    def stop(self) -> None:
        """Forget the operations that have not run yet."""
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()

    def _run(self, task: TaskObject, operation: Callable[[], None]) -> None:
        del self._calls[task.ref]
        error = None
        try:
            operation()
        except VimFault as fault:
            error = fault
        task.finish(error, self._now())
        self._inventory.changed(task.ref)
        self._finished.append(task.ref)
        for old in self._finished[:-KEPT]:
            self._inventory.objects.pop(old, None)
        del self._finished[:-KEPT]

"""The drains in the state that processes share, and the runs of masters that they belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Protocol

from esxiproxy.core.host_name import host_key
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.drain import Drain, DrainKind, InvalidDrain, drain_key, in_order, read_drain

SPACE = "drains"
"""The space of the drains in the state."""
RUNS = "runs"
"""The space of the runs of masters in the state: the id of each run, and its machine."""
RUN_LIFE = 60.0
"""Seconds after which a run counts as ended if none of its processes has noted it."""
PAGE = 1000
"""Number of items that are read at once."""


class UnknownMachine(LookupError):
    """No proxy runs on this machine, as far as the state knows."""


class StoredItems(Protocol):
    """The interface that the table needs from a state."""

    def put(self, space: str, key: str, value: str, expires: float, new: bool = False) -> Awaitable[bool]: ...

    def get(self, space: str, key: str) -> Awaitable[str | None]: ...

    def remove(self, space: str, key: str) -> Awaitable[None]: ...

    def items(self, space: str, after: str, most: int) -> Awaitable[Sequence[tuple[str, str]]]: ...


class DrainTable:
    """Reads and writes the drains of a state.  Every call may raise StateUnavailable.

    ``identity`` is the machine and the run of this process.  ``time_of_day`` reads the wall clock.
    """

    def __init__(
        self, state: StoredItems, identity: ProcessIdentity, time_of_day: Callable[[], float]
    ) -> None:
        self._state = state
        self._identity = identity
        self._time_of_day = time_of_day

    async def drain(
        self,
        kind: DrainKind,
        name: str = "",
        machine: str = "",
        end: float = inf,
        by: str = "",
        reason: str = "",
    ) -> list[Drain]:
        """Drain an object, and return its drains: one for each master that runs on the machine.

        A proxy or a listener is drained on ``machine``, by default under the own master only.  ``end`` is the
        time of day at which running consoles are closed.  An earlier drain of the object is replaced.  Raises
        InvalidDrain or UnknownMachine.
        """
        since = self._time_of_day()
        if not kind.is_local:
            if machine:
                raise InvalidDrain("an upstream or a host is drained for all machines")
            asked = [Drain(kind, name, since=since, end=end, by=by, reason=reason)]
        else:
            runs = [self._identity] if not machine else await self._runs_on(machine)
            asked = [Drain(kind, name, run.machine, run.run, since, end, by, reason) for run in runs]
        for each in asked:
            await self._state.put(SPACE, drain_key(each), each.value, inf)
        if kind.is_local:
            await self._remove_replaced(asked)
        return asked

    async def _remove_replaced(self, drains: Sequence[Drain]) -> None:
        """Remove earlier drains of these objects, which were made under another name of the machine."""
        targets, keys = {drain.target for drain in drains}, {drain_key(drain) for drain in drains}
        for key, drain in await self._stored():
            if drain.target in targets and key not in keys:
                await self._state.remove(SPACE, key)

    async def undrain(self, kind: DrainKind, name: str = "", machine: str = "") -> list[Drain]:
        """Let an object take consoles again, and return the drains that are removed.

        ``machine`` is that of a proxy or a listener, by default the own master only.  A drain that was made
        under another name of the machine is removed as well.
        """
        wanted, where = host_key(name) if kind is DrainKind.HOST else name, host_key(machine)
        runs = {run.run for run in await self._known_runs(machine)} if machine else {self._identity.run}
        removed = []
        for key, drain in await self._stored():
            if kind.is_local:
                is_meant = drain.run in runs or (machine != "" and drain.machine == where)
            else:
                is_meant = not machine
            if is_meant and (drain.kind, drain.name) == (kind, wanted):
                await self._state.remove(SPACE, key)
                removed.append(drain)
        return in_order(removed)

    async def drains(self) -> list[Drain]:
        """Return all drains, also those of other machines, in order; invalid values are left out."""
        return in_order(drain for _key, drain in await self._stored())

    async def _stored(self) -> list[tuple[str, Drain]]:
        found = []
        for key, value in await self.items():
            with suppress(InvalidDrain):  # of another version; each process logs it
                found.append((key, read_drain(value)))
        return found

    async def items(self) -> list[tuple[str, str]]:
        """Return the keys and values of all drains, as they are stored."""
        return await self._pages(SPACE)

    async def put_back(self, drains: Iterable[Drain]) -> None:
        """Store drains again that were removed because the run of this process counted as ended."""
        for drain in drains:
            await self._state.put(SPACE, drain_key(drain), drain.value, inf)

    async def remove_ended(self, drains: Iterable[Drain]) -> list[Drain]:
        """Remove the drains whose master has ended, and return them."""
        before = self._time_of_day() - RUN_LIFE
        local = [drain for drain in drains if drain.kind.is_local and drain.since < before]
        if not local:
            return []
        runs = dict(await self._pages(RUNS))
        ended = [drain for drain in local if drain.run not in runs]
        for drain in ended:
            await self._state.remove(SPACE, drain_key(drain))
        return ended

    async def note_run(self) -> None:
        """Note that the run of this process goes on."""
        expires = self._time_of_day() + RUN_LIFE
        await self._state.put(RUNS, self._identity.run, host_key(self._identity.machine), expires)

    async def is_noted(self) -> bool:
        """Return whether the run of this process counts as running."""
        return await self._state.get(RUNS, self._identity.run) is not None

    async def _runs_on(self, machine: str) -> list[ProcessIdentity]:
        found = await self._known_runs(machine)
        if not found:
            raise UnknownMachine(f"no proxy that shares the state runs on {machine}")
        return found

    async def _known_runs(self, machine: str) -> list[ProcessIdentity]:
        wanted = host_key(machine)
        found = [ProcessIdentity(where, run) for run, where in await self._pages(RUNS) if where == wanted]
        if not found and wanted == host_key(self._identity.machine):
            found = [self._identity]
        return found

    async def _pages(self, space: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while True:
            after = found[-1][0] if found else ""
            page = await self._state.items(space, after, PAGE)
            found.extend(page)
            if len(page) < PAGE:
                return found

"""Finds out from the shared state which process has a session, and how to get to its shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.reports import PROCESSES, ProcessReport
from esxiproxy.interfaces import IState
from esxiproxy.ops.manhole.command_error import CommandError, ambiguous_session, no_session
from esxiproxy.ops.manhole.worker_shells import WorkerView

SESSIONS_PAGE = 10_000
"""Sessions that are read at once."""
_ITEMS_PAGE = 1000
_MAX_PROCESSES = 20_000


@dataclass(frozen=True, slots=True)
class PlacedSession:
    """A session of any process, and the process; its fields are empty while it is unknown."""

    entry: SessionEntry
    place: ProcessIdentity


UNKNOWN_PLACE = ProcessIdentity("?", "", "?", 0)
"""The place of a session whose process has reported nothing yet."""


class SessionDirectory:
    """The sessions of all processes that share the state, with their processes.

    ``identity`` is that of this process, and ``instance_id`` its ID in the state.  ``workers`` returns the
    workers of this proxy that are known without the state.
    """

    def __init__(
        self,
        state: IState,
        identity: ProcessIdentity,
        workers: Callable[[], Sequence[WorkerView]] = tuple,
    ) -> None:
        self.identity = identity
        self._state = state
        self._workers = workers

    async def sessions(self) -> Sequence[PlacedSession]:
        """Return the sessions, the oldest first.  Raises StateUnavailable."""
        entries: list[SessionEntry] = []
        while True:
            page = await self._state.sessions(entries[-1].cursor if entries else "", SESSIONS_PAGE)
            entries.extend(page)
            if len(page) < SESSIONS_PAGE:
                break
        places = await self._places()
        return [PlacedSession(entry, places.get(entry.holder, UNKNOWN_PLACE)) for entry in entries]

    async def find(self, identity: str) -> PlacedSession:
        """Return the session whose id begins like this.  Raises CommandError."""
        found = [each for each in await self.sessions() if each.entry.session.startswith(identity)]
        if not found:
            raise no_session(identity)
        if len(found) > 1:
            raise ambiguous_session(identity, len(found))
        return found[0]

    async def refer(self, identity: str) -> None:
        """Raise CommandError, which says to which worker a session belongs, and how to get there."""
        found = await self.find(identity)
        raise CommandError(
            f"session {found.entry.session} belongs to {described(found.place)}: {self.way_to(found.place)}"
        )

    def way_to(self, place: ProcessIdentity) -> str:
        """Return how an operator gets to the shell of a process."""
        own = self.identity
        if place == UNKNOWN_PLACE:
            return "this process has yet to report who it is: repeat the command in a few seconds"
        if place.machine != own.machine:
            return f"run `esxiproxy manhole` on the machine {place.machine}"
        if place.run != own.run:
            return "run `esxiproxy manhole` with the configuration of that proxy"
        visit = f"worker({place.worker!r}, generation={place.generation})"
        if own.worker == "admin":
            return f"{visit} opens its shell"
        return (
            f"leave this shell, and call {visit} in that of the admin process, or run "
            f"`esxiproxy manhole --worker {place.worker} --generation {place.generation}`"
        )

    async def _places(self) -> Mapping[str, ProcessIdentity]:
        """Return the processes by their ID in the state."""
        found: dict[str, ProcessIdentity] = {}
        after = ""
        while len(found) < _MAX_PROCESSES:
            page = await self._state.items(PROCESSES, after, _ITEMS_PAGE)
            for key, text in page:
                if (report := ProcessReport.decode(text)) is not None:
                    found[key] = ProcessIdentity(report.machine, report.run, report.worker, report.generation)
            if len(page) < _ITEMS_PAGE:
                break
            after = page[-1][0]
        own = self.identity
        found[self._state.instance_id] = own
        for worker in self._workers():
            if worker.instance_id:
                found[worker.instance_id] = ProcessIdentity(
                    own.machine, own.run, str(worker.number), worker.generation
                )
        return found


def described(place: ProcessIdentity) -> str:
    """Return a process in words."""
    return f"worker {place.worker} of generation {place.generation} on {place.machine}"

"""The commands of the admin process: for the sessions of all processes, and for the shells of the workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from esxiproxy.core.routing import Upstream
from esxiproxy.ops.manhole import views
from esxiproxy.ops.manhole.command_error import CommandError
from esxiproxy.ops.manhole.commands import Commands, Result, Upstreams
from esxiproxy.ops.manhole.directory import PlacedSession, SessionDirectory
from esxiproxy.ops.manhole.results import PendingResult
from esxiproxy.ops.manhole.table import PlainText, age, count, table
from esxiproxy.ops.manhole.worker_shells import WorkerShell, WorkerShells, state_of


class AdminCommands(Commands):
    """The commands in a shell of the admin process, which has no session of its own.

    ``time_of_day`` is compared with the beginning of a session.
    """

    warning = (
        "This is Python in the admin process: a statement that blocks stops the API and the page. In the "
        "shell of a worker it stops the consoles of that worker."
    )

    def __init__(
        self,
        operator: str,
        directory: SessionDirectory,
        workers: WorkerShells,
        upstreams: Upstreams,
        clock: IReactorTime,
        show: Callable[[str], None],
        idle: Callable[[], None] = lambda: None,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(operator, (), upstreams, clock, show, idle, directory)
        self._all = directory
        self._workers = workers
        self._time_of_day = time_of_day

    def names(self) -> dict[str, Any]:
        return {"workers": self.workers, "worker": self.worker, **super().names()}

    # Commands: the docstrings are the lines of help()

    def workers(self) -> PendingResult:
        """workers(): list the workers of this proxy with the number of their sessions"""
        return PendingResult.of(self._list_workers())

    def worker(self, number: int | str, generation: int | None = None) -> WorkerShell:
        """worker(number, generation=None): open a worker's shell in this terminal, until exit() or Ctrl-D"""
        if not isinstance(generation, int | None):
            raise CommandError("the generation of a worker is a number")
        return self._workers.find(number, generation)

    def sessions(self) -> PendingResult:
        """sessions(): list the sessions of all workers and machines, oldest first"""
        return PendingResult.of(self._list_sessions())

    def session(self, identity: str) -> PendingResult:
        """session(id): show a session of any worker; a unique prefix of the id is enough"""
        self._find(identity)
        return PendingResult.of(self._show_session(str(identity)))

    def close(self, identity: str, reason: str = "") -> Result:
        """close(id): say which worker a session belongs to; close() in the shell of that worker ends it"""
        return super().close(identity, reason)

    def trace(self, identity: str, frames: int = 100, seconds: float = 60.0) -> Result:
        """trace(id): say which worker a session belongs to; trace() in the shell of that worker shows it"""
        return super().trace(identity, frames, seconds)

    def untrace(self, identity: str) -> Result:
        """untrace(id): say which worker a session belongs to; a trace ends with the shell that began it"""
        return super().untrace(identity)

    def upstreams(self) -> PendingResult:
        """upstreams(): list the upstreams with the number of their sessions on all workers and machines"""
        return PendingResult.of(self._list_upstreams())

    async def _list_workers(self) -> PlainText:
        own = self._all.identity
        sessions = Counter(
            (each.place.worker, each.place.generation)
            for each in await self._all.sessions()
            if (each.place.machine, each.place.run) == (own.machine, own.run)
        )
        header = ("worker", "gen", "pid", "state", "sessions", "connections")
        rows = [
            (
                str(worker.number),
                str(worker.generation),
                str(worker.pid),
                state_of(worker),
                str(sessions[str(worker.number), worker.generation]),
                str(worker.connections),
            )
            for worker in self._workers.listed()
        ]
        return PlainText(f"{table(header, rows)}\n{count(len(rows), 'worker')} on {own.machine}")

    async def _list_sessions(self) -> PlainText:
        found = await self._all.sessions()
        if not found:
            return PlainText("no sessions")
        header = ("id", *views.PLACE, "user", "client", "listener", "upstream", "host", "age")
        now = self._time_of_day()
        return PlainText(
            f"{table(header, [_cells(each, now) for each in found])}\n{count(len(found), 'session')}"
        )

    async def _show_session(self, identity: str) -> PlainText:
        found = await self._all.find(identity)
        entry, place = found.entry, found.place
        rows = [
            ("session", entry.session),
            *views.place_rows(place),
            ("listener", entry.listener),
            ("client", entry.client),
            ("principal", entry.principal or "-"),
            ("target", entry.target),
            ("upstream", entry.upstream or "-"),
            ("host", entry.host or "-"),
            ("console", entry.console or "-"),
            ("age", age(max(0.0, self._time_of_day() - entry.since))),
            ("more", self._all.way_to(place)),
        ]
        return PlainText(views.details(rows))

    async def _list_upstreams(self) -> PlainText:
        running = Counter(each.entry.upstream for each in await self._all.sessions())
        known: Mapping[str, Upstream] = {upstream.name: upstream for upstream in self._upstreams()}
        rows = [
            (name, *(views.upstream_cells(known[name]) if name in known else ("-", "-")), str(running[name]))
            for name in sorted({*known, *(name for name in running if name)})
        ]
        header = ("upstream", "url", "verify", "sessions")
        return PlainText(table(header, rows) if rows else "no upstreams")


def _cells(session: PlacedSession, now: float) -> Sequence[str]:
    entry = session.entry
    return (
        entry.session,
        *views.place(session.place),
        entry.principal,
        entry.client,
        entry.listener,
        entry.upstream,
        entry.host,
        age(max(0.0, now - entry.since)),
    )

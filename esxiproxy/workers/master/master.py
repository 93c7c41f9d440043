"""The master process: binds the listeners, and starts, monitors and replaces workers and admin process.

It accepts no connections itself.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.file_sink import StdoutSink
from esxiproxy.ops.logs.sink import Losses
from esxiproxy.ops.metrics.files import ENVIRONMENT as METRICS
from esxiproxy.ops.process.descriptors import Descriptors
from esxiproxy.ops.process.systemd import SystemdService
from esxiproxy.workers.master import admin_generation
from esxiproxy.workers.master.admin_generation import AdminGeneration
from esxiproxy.workers.master.admin_supervisor import AdminSupervisor
from esxiproxy.workers.master.child_process import ERRORS
from esxiproxy.workers.master.deadline import fork
from esxiproxy.workers.master.generation import ABORT_TIMEOUT, Generation, descriptors_needed
from esxiproxy.workers.master.plan_reader import PlanRefused, read_plan
from esxiproxy.workers.master.sockets import Bindings, Sockets
from esxiproxy.workers.master.state_directory import StateDirectory
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import Facts
from esxiproxy.workers.shared.messages import Launch, WorkerCommand
from esxiproxy.workers.shared.reactor import IProcessReactor

DRAIN_GRACE = 5.0
"""Seconds by which a drain may exceed the configured time before the workers are aborted."""
_SHUTTING_DOWN = "the proxy is shutting down"
_TOO_LATE = ReloadOutcome(False, (_SHUTTING_DOWN,))
_OTHER_DESCRIPTORS = 16
"""Descriptors that the master opens besides: the state directory, pipes while a process is started."""


class Master(Service):
    """The service that runs the workers of a configuration.

    ``privilegedStartService`` binds the listeners, before twistd gives up root.  When the first
    workers do not become ready, the process exits with status 1.  ``reload`` replaces all workers by those of
    the current configuration file.  ``stopService`` drains the workers, and ``abort`` stops them at once.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        plan: Plan,
        reactor: IProcessReactor,
        make_generation: Any = Generation,
        make_admin: Any = AdminGeneration,
    ) -> None:
        assert path.is_absolute(), "the path has to be absolute, since a daemon changes its directory"
        self.setName("master")
        self._path = path
        self._plan = plan
        self._reactor = reactor
        self._make_generation = make_generation
        self._sockets = Sockets(reactor)
        self._state_directory = StateDirectory()
        self._bound: Bindings = {}
        self._current: Generation | None = None
        self._generations: list[Generation] = []
        self._run, self._started, self._number = ProcessIdentity().run, time.time(), 0
        self._admin = AdminSupervisor(self._facts, self.reload, self._reclaim, reactor, make_admin)
        self._reloading = self._ending = False
        self._requested: list[Deferred[ReloadOutcome]] = []
        """The requests for the next reload."""
        self._reading_plan: Deferred[Any] = succeed(None)
        self._previous_handler: Any = None
        self.systemd = SystemdService(reactor, status=self._status)

    def privilegedStartService(self) -> None:
        """Bind all listeners.  Raises BindError, or StartupError when workers cannot run here."""
        super().privilegedStartService()
        if not hasattr(os, "memfd_create"):
            raise StartupError(
                "several processes need Linux: set workers = 1, and remove the sections [vsphere NAME]"
            )
        # Two generations: a reload starts the new one before the old one ends.
        children = 2 * (descriptors_needed(self._plan.workers) + admin_generation.DESCRIPTORS)
        endpoints = _endpoints(self._plan)
        Descriptors().raise_to_hard_limit(children + len(endpoints) + _OTHER_DESCRIPTORS)
        self._bound = self._sockets.bind(endpoints, self._plan.socket_group)
        self._sockets.keep(self._bound)

    def startService(self) -> None:
        super().startService()
        self._previous_handler = signal.getsignal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, self._reopen)
        self._reactor.callWhenRunning(lambda: Deferred.fromCoroutine(self._start()))

    async def _start(self) -> None:
        if self._ending:
            return
        self._log.info("{workers} workers", workers=self._plan.workers)
        self._warn(self._plan)
        try:
            self._current, admin = await self._start_children(self._plan, self._bound, 0)
        except StartupError as error:
            if not self._ending:
                self._exit_with_error(error)
            return
        self._current.open()
        self._admin.use(admin)
        self._log.info("all workers are ready")
        self.systemd.startService()
        self._next_reload()

    def _exit_with_error(self, error: StartupError) -> None:
        self._log.critical("{error}", error=error)
        with suppress(OSError):  # standard error may be closed
            output = StdoutSink(self._reactor, ERRORS, Losses())
            output.open()
            output.put(f"esxiproxy: {error}\n".encode())
            output.close()
        atexit.register(_exit, 1)  # twistd has no other way to set the exit status
        self._reactor.stop()

    async def _start_children(
        self, plan: Plan, bound: Bindings, number: int
    ) -> tuple[Generation, AdminGeneration | None]:
        """Start a generation and its admin process, and return them when they are ready.

        Raises StartupError, and then has ended both.
        """
        descriptors = {name: binding.port.fileno() for name, binding in bound.items()}  # type: ignore
        of_admin = {name: descriptors.pop(name) for name, _ in plan.admin_endpoints}
        try:
            launch = self._launch(plan, number)
        except OSError as error:
            raise StartupError(f"cannot create what the workers share: {error}") from error
        starting_admin = Deferred.fromCoroutine(self._admin.start(plan, launch, of_admin))
        try:
            generation = await self._start_generation(plan, launch, descriptors)
        except Exception:
            starting_admin.cancel()
            with suppress(StartupError, CancelledError):
                await self._admin.discard(await starting_admin)
            raise
        try:
            admin = await starting_admin
            if self._ending:
                raise StartupError(_SHUTTING_DOWN)
        except Exception:
            generation.stop(WorkerCommand.NOW)
            raise
        return generation, admin

    def _launch(self, plan: Plan, number: int) -> Launch:
        """Return the values that the children of a generation are started with.  Raises OSError."""
        names = {name for name, _ in plan.admin_endpoints}
        return Launch(
            str(self._path),
            plan.state or self._state_directory.database,
            self._run,
            self._started,
            number,
            {METRICS: self._state_directory.metrics} if names - {MANHOLE} else {},
            self._state_directory.shells if MANHOLE in names else "",
            self._state_directory.sockets if plan.needs_sockets else "",
        )

    async def _start_generation(self, plan: Plan, launch: Launch, sockets: Mapping[str, int]) -> Generation:
        """Start a generation, and return it when all workers are ready.  Raises StartupError."""
        try:
            generation: Generation = self._make_generation(
                plan, launch, sockets, self._record_crashed, self._reactor
            )
        except OSError as error:
            raise StartupError(f"cannot create what the workers share: {error}") from error
        self._generations.append(generation)
        generation.stopped_accepting.addCallback(lambda _: self._release_unused_sockets())
        generation.exited.addCallback(lambda _: self._generations.remove(generation))
        try:
            await generation.start()
        except Exception:
            generation.stop(WorkerCommand.NOW)
            raise
        return generation

    # Reload

    def reload(self) -> Deferred[ReloadOutcome]:
        """Read the configuration, and replace the workers if it is valid.

        The outcome is logged; the Deferred fires with it and never fails.  Requests that arrive during a
        reload share the next one.
        """
        outcome: Deferred[ReloadOutcome] = Deferred()
        if self._ending:
            outcome.callback(_TOO_LATE)
            return outcome
        self._requested.append(outcome)
        self._next_reload()
        return outcome

    def _next_reload(self) -> None:
        """Reload if that was requested, unless the proxy starts or a reload runs."""
        if self._requested and self._current is not None and not self._reloading and not self._ending:
            requests, self._requested = self._requested, []
            Deferred.fromCoroutine(self._reload(requests))

    async def _reload(self, requests: Sequence[Deferred[ReloadOutcome]]) -> None:
        assert self._current is not None
        self._reloading = True
        self.systemd.reloading()
        outcome = await self._outcome(self._current)
        self._reloading = False
        for request in requests:
            request.callback(outcome)
        self._admin.end_others()
        if not self._ending:
            self.systemd.ready()
            self._next_reload()

    async def _outcome(self, old: Generation) -> ReloadOutcome:
        """Replace the workers, log the outcome and return it."""
        try:
            await self._replace_generation(old)
        except PlanRefused as error:
            for line in error.lines:
                self._log.error("{line}", line=line)
            return self._rejected(error, *error.lines)
        except StartupError as error:
            return self._rejected(error)
        except CancelledError:
            return self._rejected(_SHUTTING_DOWN)
        except Exception:
            self._log.failure("reload: internal error")
            return self._rejected("an internal error")
        self._log.info("reload: {path} is in force", path=self._path)
        return ReloadOutcome(True)

    def _rejected(self, why: object, *problems: str) -> ReloadOutcome:
        if not self._ending:
            self._log.error("reload: {why}; everything stays as it was", why=why)
        return ReloadOutcome(False, problems or (str(why),))

    def _warn(self, plan: Plan) -> None:
        """Log the warnings on a configuration once for all workers."""
        for warning in plan.warnings:
            self._log.warn("{line}", line=warning)

    async def _replace_generation(self, old: Generation) -> None:
        self._reading_plan = ensureDeferred(read_plan(self._path, self._reactor))
        plan = await self._reading_plan
        bound = self._sockets.bind(_endpoints(plan), plan.socket_group)
        number = self._number + 1
        try:
            new, admin = await self._start_children(plan, bound, number)
        except Exception:
            self._sockets.release_new(bound)
            raise
        self._current, self._plan, self._number = new, plan, number
        self._warn(plan)
        self._sockets.keep(bound)
        new.open()
        self._admin.use(admin)
        old.stop(WorkerCommand.RETIRE)
        # After the reload only new workers accept.  An old worker that hangs must not delay it for ever.
        stopped = fork(old.stopped_accepting)
        await stopped.addTimeout(DRAIN_GRACE, self._reactor, onTimeoutCancel=lambda *_: None)

    def _release_unused_sockets(self) -> None:
        """Close the sockets that no longer are needed when no old generation accepts any more."""
        old = [generation for generation in self._generations if generation is not self._current]
        if all(generation.stopped_accepting.called for generation in old):
            self._sockets.release_others()

    # Stop

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Drain the workers, and stop the admin process after them."""
        self._ending = True
        self._reading_plan.cancel()
        requests, self._requested = self._requested, []
        for request in requests:
            request.callback(_TOO_LATE)
        end = admin_generation.END_TIMEOUT + ABORT_TIMEOUT
        self.systemd.stopping(self._plan.drain + DRAIN_GRACE + ABORT_TIMEOUT + end)
        self._admin.send_facts()
        for generation in list(self._generations):
            generation.stop(WorkerCommand.DRAIN)
        stopped_accepting = DeferredList(
            [fork(generation.stopped_accepting) for generation in self._generations]
        )
        exited = DeferredList([fork(generation.exited) for generation in self._generations])
        abort_timer: IDelayedCall = self._reactor.callLater(self._plan.drain + DRAIN_GRACE, self.abort)
        await stopped_accepting
        self._sockets.release_all(but=[name for name, _ in self._plan.admin_endpoints])
        await exited
        await self._admin.stop()
        await self._sockets.release_all()
        if abort_timer.active():
            abort_timer.cancel()
        if self.systemd.running:
            self.systemd.stopService()
        self._state_directory.remove()

    def abort(self) -> None:
        """Stop all workers and the admin process at once."""
        for generation in list(self._generations):
            generation.stop(WorkerCommand.NOW)
        self._admin.abort()

    # Events of workers and signals

    def _record_crashed(self, instance_id: str) -> None:
        if self._current is not None and not self._reclaim(instance_id):
            self._log.error("cannot record the sessions of a crashed worker: no other worker is running")

    def _reclaim(self, instance_id: str) -> bool:
        """Let a worker release what a crashed process had; return False if no worker can."""
        current = () if self._current is None else (self._current,)
        return any(generation.record_lost(instance_id) for generation in (*current, *self._generations))

    def _facts(self) -> Facts:
        workers = (worker for generation in self._generations for worker in generation.facts())
        return Facts(tuple(workers), self._ending)

    def _reopen(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous_handler):
            self._previous_handler(number, frame)
        self._reactor.callFromThread(self._reopen_workers)

    def _reopen_workers(self) -> None:
        for generation in self._generations:
            generation.signal(signal.SIGUSR1)
        self._admin.signal(signal.SIGUSR1)

    def _status(self) -> str:
        connections = sum(generation.connections for generation in self._generations)
        return f"{self._plan.workers} workers, {connections} connections"


def _endpoints(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return all sockets that the master binds."""
    return (*plan.endpoints, *plan.admin_endpoints)


def _exit(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)

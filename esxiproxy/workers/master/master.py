"""The master process: binds the listeners, and starts, monitors and replaces the workers.

It accepts no connections itself.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.file_sink import StdoutSink
from esxiproxy.ops.logs.sink import Losses
from esxiproxy.ops.process.descriptors import Descriptors
from esxiproxy.ops.process.systemd import SystemdService
from esxiproxy.workers.master.child_process import ERRORS
from esxiproxy.workers.master.generation import ABORT_TIMEOUT, Generation, descriptors_needed
from esxiproxy.workers.master.plan_reader import PlanRefused, read_plan
from esxiproxy.workers.master.sockets import Bindings, Sockets
from esxiproxy.workers.master.state_directory import StateDirectory
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.messages import WorkerCommand

DRAIN_GRACE = 5.0
"""Seconds by which a drain may exceed the configured time before the workers are aborted."""
_OTHER_DESCRIPTORS = 16
"""Descriptors that the master opens besides: the state directory, pipes while a process is started."""


class Master(Service):
    """The service that runs the workers of a configuration.

    ``privilegedStartService`` binds the listeners, before twistd gives up root.  When the first
    workers do not become ready, the process exits with status 1.  ``reload`` replaces all workers by those of
    the current configuration file.  ``stopService`` drains the workers, and ``abort`` stops them at once.
    """

    _log = Logger()

    def __init__(self, path: Path, plan: Plan, reactor: Any, make_generation: Any = Generation) -> None:
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
        self._reloading = self._reload_requested = self._ending = False
        self._reading_plan: Deferred[Any] = succeed(None)
        self._previous_handler: Any = None
        self.systemd = SystemdService(reactor, status=self._status)

    def privilegedStartService(self) -> None:
        """Bind all listeners.  Raises BindError, or StartupError when workers cannot run here."""
        super().privilegedStartService()
        if not hasattr(os, "memfd_create"):
            raise StartupError("several workers need Linux: set workers = 1")
        # Two generations: a reload starts the new one before the old one ends.
        workers = 2 * descriptors_needed(self._plan.workers)
        Descriptors().raise_to_hard_limit(workers + len(self._plan.endpoints) + _OTHER_DESCRIPTORS)
        self._bound = self._sockets.bind(self._plan.endpoints)
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
            self._current = await self._start_generation(self._plan, self._bound)
        except StartupError as error:
            if not self._ending:
                self._exit_with_error(error)
            return
        self._current.open()
        self._log.info("all workers are ready")
        self.systemd.startService()
        self._reload_again()

    def _exit_with_error(self, error: StartupError) -> None:
        self._log.critical("{error}", error=error)
        with suppress(OSError):  # standard error may be closed
            output = StdoutSink(self._reactor, ERRORS, Losses())
            output.open()
            output.put(f"esxiproxy: {error}\n".encode())
            output.close()
        atexit.register(_exit, 1)  # twistd has no other way to set the exit status
        self._reactor.stop()

    async def _start_generation(self, plan: Plan, bound: Bindings) -> Generation:
        """Start a generation, and return it when all workers are ready.  Raises StartupError."""
        descriptors = {name: binding.port.fileno() for name, binding in bound.items()}  # type: ignore
        try:
            state = plan.state or self._state_directory.database
            generation: Generation = self._make_generation(
                plan, str(self._path), descriptors, state, self._record_crashed, self._reactor
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

    def reload(self) -> Deferred[None]:
        """Read the configuration, and replace the workers if it is valid.

        The outcome is logged; the Deferred never fails.
        """
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        if self._reloading or self._current is None:
            self._reload_requested = True
            return
        self._reloading = True
        self.systemd.reloading()
        try:
            await self._replace_generation(self._current)
        except PlanRefused as error:
            for line in error.lines:
                self._log.error("{line}", line=line)
            self._log_rejected(error)
        except (StartupError, CancelledError) as error:
            self._log_rejected(error)
        except Exception:
            self._log.failure("reload: internal error")
            self._log_rejected("an internal error")
        else:
            self._log.info("reload: {path} is in force", path=self._path)
        self._reloading = False
        if not self._ending:
            self.systemd.ready()
            self._reload_again()

    def _warn(self, plan: Plan) -> None:
        """Log the warnings on a configuration once for all workers."""
        for warning in plan.warnings:
            self._log.warn("{line}", line=warning)

    def _reload_again(self) -> None:
        """Reload if that was requested during the start or the last reload."""
        if self._reload_requested:
            self._reload_requested = False
            self.reload()

    async def _replace_generation(self, old: Generation) -> None:
        self._reading_plan = ensureDeferred(read_plan(self._path, self._reactor))
        plan = await self._reading_plan
        bound = self._sockets.bind(plan.endpoints)
        try:
            new = await self._start_generation(plan, bound)
            if self._ending:
                raise StartupError("the proxy is shutting down")
        except Exception:
            self._sockets.release_new(bound)
            raise
        self._current, self._plan = new, plan
        self._warn(plan)
        self._sockets.keep(bound)
        new.open()
        old.stop(WorkerCommand.RETIRE)
        # After the reload only new workers accept.  An old worker that hangs must not delay it for ever.
        stopped = _fork_deferred(old.stopped_accepting)
        await stopped.addTimeout(DRAIN_GRACE, self._reactor, onTimeoutCancel=lambda *_: None)

    def _release_unused_sockets(self) -> None:
        """Close the sockets that no longer are needed when no old generation accepts any more."""
        old = [generation for generation in self._generations if generation is not self._current]
        if all(generation.stopped_accepting.called for generation in old):
            self._sockets.release_others()

    def _log_rejected(self, why: object) -> None:
        if not self._ending:
            self._log.error("reload: {why}; everything stays as it was", why=why)

    # Stop

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._ending = True
        self._reading_plan.cancel()
        self.systemd.stopping(self._plan.drain + DRAIN_GRACE + ABORT_TIMEOUT)
        for generation in list(self._generations):
            generation.stop(WorkerCommand.DRAIN)
        stopped_accepting = DeferredList(
            [_fork_deferred(generation.stopped_accepting) for generation in self._generations]
        )
        exited = DeferredList([_fork_deferred(generation.exited) for generation in self._generations])
        abort_timer: IDelayedCall = self._reactor.callLater(self._plan.drain + DRAIN_GRACE, self.abort)
        await stopped_accepting
        self._sockets.release_all()
        await exited
        if abort_timer.active():
            abort_timer.cancel()
        if self.systemd.running:
            self.systemd.stopService()
        self._state_directory.remove()

    def abort(self) -> None:
        """Stop all workers at once."""
        for generation in list(self._generations):
            generation.stop(WorkerCommand.NOW)

    # Events of workers and signals

    def _record_crashed(self, instance_id: str) -> None:
        if self._current is None:  # no worker has had a session
            return
        if not any(generation.record_lost(instance_id) for generation in (self._current, *self._generations)):
            self._log.error("cannot record the sessions of a crashed worker: no other worker is running")

    def _reopen(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous_handler):
            self._previous_handler(number, frame)
        self._reactor.callFromThread(self._reopen_workers)

    def _reopen_workers(self) -> None:
        for generation in self._generations:
            generation.signal(signal.SIGUSR1)

    def _status(self) -> str:
        connections = sum(generation.connections for generation in self._generations)
        return f"{self._plan.workers} workers, {connections} connections"


def _exit(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)


def _fork_deferred(deferred: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires when another one does, which other callers can still use."""
    copy: Deferred[None] = Deferred()

    def fire(result: None) -> None:
        if not copy.called:
            copy.callback(None)

    deferred.addCallback(fire)
    return copy

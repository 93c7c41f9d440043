"""A generation: the workers of one configuration, which start together and stop together."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from esxiproxy.core.startup import StartupError
from esxiproxy.ops.process.descriptors import explain
from esxiproxy.workers.master.backoff import Backoff
from esxiproxy.workers.master.deadline import with_timeout
from esxiproxy.workers.master.watchdog import CHECK_INTERVAL, Watchdog, WorkerHealth
from esxiproxy.workers.master.worker_process import WorkerProcess
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import WorkerFacts
from esxiproxy.workers.shared.messages import Launch, WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.shared.scoreboard import Scoreboard
from esxiproxy.workers.shared.wakeups import new_wakes, wake

START_TIMEOUT = 30.0
"""Seconds within which the workers of a new generation, and later each new worker, have to be ready."""
ABORT_TIMEOUT = 5.0
"""Seconds within which a worker has to exit after an abort, before it is killed."""
_OF_A_WORKER = 4
"""Descriptors in the master for each worker: three pipes and an eventfd."""
_OF_A_GENERATION = 2
"""Descriptors in the master for the scoreboard: the memory and its mapping."""


def descriptors_needed(workers: int) -> int:
    """Return how many descriptors of the master a generation of so many workers takes."""
    return workers * _OF_A_WORKER + _OF_A_GENERATION


class GenerationPhase(Enum):
    """The phase of a generation."""

    STARTING = 1
    SERVING = 2
    STOPPING = 3


class Generation:
    """The workers of one plan; a worker that exits between ``open`` and ``stop`` is replaced.

    No worker accepts a connection before all are ready.  ``stopped_accepting`` fires when no worker accepts
    any more, and ``exited`` when the last worker has exited.  ``on_crash`` is called with the instance ID of
    each worker whose sessions have to be recorded.
    """

    _log = Logger()

    def __init__(
        self,
        plan: Plan,
        launch: Launch,
        sockets: Mapping[str, int],
        on_crash: Callable[[str], None],
        reactor: IProcessReactor,
        make_process: Callable[..., WorkerProcess] = WorkerProcess,
    ) -> None:
        self.plan = plan
        self.stopped_accepting: Deferred[None] = Deferred()
        self.exited: Deferred[None] = Deferred()
        self._launch = launch
        self._sockets = dict(sockets)
        self._on_crash = on_crash
        self._reactor = reactor
        self._make_process = make_process
        self._phase = GenerationPhase.STARTING
        self._scoreboard = Scoreboard.new(plan.workers)
        try:
            self._wakes = new_wakes(plan.workers)
        except OSError:
            self._scoreboard.close()
            raise
        self._backoffs = [Backoff() for _ in range(plan.workers)]
        self._processes: dict[int, WorkerProcess] = {}
        self._restarts: dict[int, IDelayedCall] = {}
        self._watchdog = Watchdog()
        self._check_timer = LoopingCall(self._check_heartbeats)
        self._check_timer.clock = reactor
        self._ready: Deferred[None] = Deferred()
        self._unrecorded: list[str] = []
        """Instance IDs of crashed workers whose sessions no worker could record yet."""

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._processes.values()))

    def facts(self) -> Iterator[WorkerFacts]:
        """Yield the signs of life of each worker."""
        loads, now = self._scoreboard.loads(), time.monotonic()
        for worker in self:
            load = loads[worker.number]
            yield WorkerFacts(
                self._launch.generation,
                worker.number,
                worker.pid,
                worker.instance_id,
                now - abs(load.heartbeat_at) if load.heartbeat_at else None,
                load.connections,
                load.heartbeat_at > 0,
            )

    @property
    def connections(self) -> int:
        """The number of open client connections of all workers."""
        return sum(load.connections for load in self._scoreboard.loads())

    def start(self) -> Deferred[None]:
        """Start all workers.  The Deferred fires when all are ready, or fails with StartupError."""
        for number in range(self.plan.workers):
            self._start(number)
        timeout = StartupError(f"the workers were not ready within {START_TIMEOUT:g} s")
        return with_timeout(START_TIMEOUT, self._ready, timeout, self._reactor)

    def open(self) -> None:
        """Let all workers accept connections, and start to check their heartbeats."""
        self._phase = GenerationPhase.SERVING
        for worker in self:
            self._open(worker)
        self._check_timer.start(CHECK_INTERVAL, now=False)

    def stop(self, command: WorkerCommand) -> None:
        """Stop all workers by RETIRE, DRAIN or NOW.  A second call with a stricter command is allowed."""
        self._phase = GenerationPhase.STOPPING
        for call in self._restarts.values():
            call.cancel()
        self._restarts.clear()
        self._set_ready(StartupError("the proxy is shutting down"))
        unrecorded, self._unrecorded = self._unrecorded, []
        for instance_id in unrecorded:
            self._on_crash(instance_id)
        self._send_all(command)
        if command is WorkerCommand.NOW:
            for worker in self:
                self._reactor.callLater(ABORT_TIMEOUT, self._kill, worker)
        self._check_stopped()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all workers."""
        for worker in self:
            worker.signal(number)

    def record_lost(self, instance_id: str) -> bool:
        """Let a worker record the sessions of a crashed one; return False if no worker ever can."""
        if self._phase is GenerationPhase.STOPPING and not any(worker.instance_id for worker in self):
            return False
        self._unrecorded.append(instance_id)
        self._flush_recordings()
        return True

    # Events of the workers

    def ready(self, worker: WorkerProcess) -> None:
        if self._phase is GenerationPhase.SERVING:
            self._open(worker)
            self._log.info("{worker} is ready", worker=worker)
            self._flush_recordings()
        elif self._phase is GenerationPhase.STARTING and all(worker.instance_id for worker in self):
            self._set_ready(None)

    def closed(self, worker: WorkerProcess) -> None:
        self._check_stopped()

    def ended(self, worker: WorkerProcess) -> None:
        del self._processes[worker.number]
        self._scoreboard.clear(worker.number)
        wake(self._wakes)
        if worker.exit_reason:
            self._log.error("{worker} {why}", worker=worker, why=worker.exit_reason)
            if worker.instance_id:
                self._on_crash(worker.instance_id)
        for instance_id in worker.recording:
            self._on_crash(instance_id)
        if self._phase is GenerationPhase.STARTING:
            self._set_ready(StartupError(f"{worker} {worker.exit_reason or 'has exited'}"))
        elif self._phase is GenerationPhase.SERVING:
            self._replace(worker.number, self._reactor.seconds() - worker.started_at)
        self._check_stopped()

    def _open(self, worker: WorkerProcess) -> None:
        """Let a worker accept, and count it in the balance before it has read the command."""
        self._scoreboard.heartbeat(worker.number, time.monotonic_ns())
        worker.send_command(WorkerCommand.OPEN)

    def _flush_recordings(self) -> None:
        candidates = sorted(
            (worker for worker in self if worker.instance_id), key=lambda worker: worker.has_stopped_accepting
        )
        if candidates and (
            self._phase is GenerationPhase.STOPPING or not candidates[0].has_stopped_accepting
        ):
            unrecorded, self._unrecorded = self._unrecorded, []
            for instance_id in unrecorded:
                candidates[0].send_command(WorkerCommand.RECORD_LOST, instance_id)

    def _start(self, number: int) -> None:
        self._restarts.pop(number, None)
        shared = self._launch, self._sockets, self._scoreboard.descriptor, self._wakes
        worker_config, inherited = WorkerConfig.for_worker(number, self.plan, *shared)
        worker = self._make_process(worker_config, self, self._reactor, self._launch.environment)
        try:
            worker.start(inherited)
        except OSError as error:
            why = f"{worker} cannot be started: {sys.executable}: {explain(error)}"
            self._log.error("{why}", why=why)
            if self._phase is GenerationPhase.STARTING:
                self._set_ready(StartupError(why))
            else:
                self._replace(number, 0.0)
        else:
            self._processes[number] = worker
            if self._phase is GenerationPhase.SERVING:
                self._reactor.callLater(START_TIMEOUT, self._on_start_timeout, worker)

    def _on_start_timeout(self, worker: WorkerProcess) -> None:
        if not worker.instance_id and worker in self._processes.values():
            self._log.error("{worker} was not ready within {time:g} s", worker=worker, time=START_TIMEOUT)
            worker.signal(signal.SIGKILL)

    def _check_heartbeats(self) -> None:
        loads = self._scoreboard.loads()
        heartbeats = {
            worker.number: loads[worker.number].heartbeat_at for worker in self if worker.instance_id
        }
        for number, health in self._watchdog.check(heartbeats).items():
            self._log.error("worker {number} {health}", number=number, health=health.value)
            if health is WorkerHealth.LOST:
                self._processes[number].signal(signal.SIGKILL)

    def _replace(self, number: int, lifetime: float) -> None:
        delay = self._backoffs[number].next_delay(lifetime)
        again = "at once" if not delay else f"in {delay:g} s"
        self._log.error("worker {number} is started again {again}", number=number, again=again)
        self._restarts[number] = self._reactor.callLater(delay, self._start, number)

    def _set_ready(self, error: StartupError | None) -> None:
        if self._ready.called:
            return
        if error is None:
            self._ready.callback(None)
        else:
            self._ready.errback(error)

    def _send_all(self, command: WorkerCommand) -> None:
        for worker in self:
            worker.send_command(command)

    def _kill(self, worker: WorkerProcess) -> None:
        if worker in self._processes.values():
            worker.signal(signal.SIGKILL)

    def _check_stopped(self) -> None:
        if self._phase is not GenerationPhase.STOPPING:
            return
        if not self.stopped_accepting.called and all(worker.has_stopped_accepting for worker in self):
            self.stopped_accepting.callback(None)
        if not self.exited.called and not self._processes:
            if self._check_timer.running:
                self._check_timer.stop()
            for descriptor in self._wakes:
                os.close(descriptor)
            self._scoreboard.close()
            self.exited.callback(None)

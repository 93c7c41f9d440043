"""The workers of one configuration: started together, replaced one by one, and gone together."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

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
from esxiproxy.workers.shared.messages import WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.scoreboard import Scoreboard
from esxiproxy.workers.shared.wakeups import new_wakes, wake

START_TIMEOUT = 30.0
"""Seconds in which the workers of a new generation have to be ready, and one that replaces another."""
ABORT_TIMEOUT = 5.0
"""Seconds that a worker gets to end at once."""
_OF_A_WORKER = 4
"""Descriptors in the master for each worker: three pipes and an eventfd."""
_OF_A_GENERATION = 2
"""Descriptors in the master for the scoreboard: the memory and its mapping."""


def descriptors_needed(workers: int) -> int:
    """Return how many descriptors of the master a generation of so many workers takes."""
    return workers * _OF_A_WORKER + _OF_A_GENERATION


class GenerationPhase(Enum):
    """What a generation is up to."""

    STARTING = 1
    SERVING = 2
    STOPPING = 3


class Generation:
    """Keeps as many workers as the plan has, from ``open`` until they are told to leave.

    Nobody accepts a connection before all of them are ready.  ``shut`` fires when none of them accepts any
    more, ``gone`` when there is none left.  ``bury`` is called with the name of each holder that died.
    """

    _log = Logger()

    def __init__(
        self,
        plan: Plan,
        config: str,
        sockets: Mapping[str, int],
        state: str,
        bury: Callable[[str], None],
        reactor: Any,
        child: Callable[[WorkerConfig, Generation, Any], WorkerProcess] = WorkerProcess,
    ) -> None:
        self.plan = plan
        self.stopped_accepting: Deferred[None] = Deferred()
        self.exited: Deferred[None] = Deferred()
        self._config = config
        self._sockets = dict(sockets)
        self._state = state
        self._on_crash = bury
        self._reactor = reactor
        self._make_process = child
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
        """Dead holders that nobody could bury yet."""

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._processes.values()))

    @property
    def connections(self) -> int:
        """How many clients are connected to them."""
        return sum(share.connections for share in self._scoreboard.loads())

    def start(self) -> Deferred[None]:
        """Start all of them; fires when they are ready, or fails with CannotStart."""
        for number in range(self.plan.workers):
            self._start(number)
        late = StartupError(f"the workers were not ready within {START_TIMEOUT:g} s")
        return with_timeout(START_TIMEOUT, self._ready, late, self._reactor)

    def open(self) -> None:
        """Accept connections from now on."""
        self._phase = GenerationPhase.SERVING
        for child in self:
            self._open(child)
        self._check_timer.start(CHECK_INTERVAL, now=False)

    def stop(self, word: WorkerCommand) -> None:
        """Have them all leave, in the way that the word says; may be said again, with another one."""
        self._phase = GenerationPhase.STOPPING
        for call in self._restarts.values():
            call.cancel()
        self._restarts.clear()
        self._set_ready(StartupError("the proxy is shutting down"))
        owed, self._unrecorded = self._unrecorded, []
        for holder in owed:
            self._on_crash(holder)
        self._send_all(word)
        if word is WorkerCommand.NOW:
            for child in self:
                self._reactor.callLater(ABORT_TIMEOUT, self._kill, child)
        self._check_stopped()

    def signal(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for child in self:
            child.signal(number)

    def record_lost(self, holder: str) -> bool:
        """Have one of them record what a dead holder had, when one is able to; False: nobody will be."""
        if self._phase is GenerationPhase.STOPPING and not any(child.instance_id for child in self):
            return False
        self._unrecorded.append(holder)
        self._flush_recordings()
        return True

    # What the children tell

    def ready(self, child: WorkerProcess) -> None:
        if self._phase is GenerationPhase.SERVING:
            self._open(child)
            self._log.info("{child} is ready", child=child)
            self._flush_recordings()
        elif self._phase is GenerationPhase.STARTING and all(child.instance_id for child in self):
            self._set_ready(None)

    def closed(self, child: WorkerProcess) -> None:
        self._check_stopped()

    def ended(self, child: WorkerProcess) -> None:
        del self._processes[child.number]
        self._scoreboard.clear(child.number)
        wake(self._wakes)
        if child.exit_reason:
            self._log.error("{child} {why}", child=child, why=child.exit_reason)
            if child.instance_id:
                self._on_crash(child.instance_id)
        for holder in child.recording:
            self._on_crash(holder)
        if self._phase is GenerationPhase.STARTING:
            self._set_ready(StartupError(f"{child} {child.exit_reason or 'has ended'}"))
        elif self._phase is GenerationPhase.SERVING:
            self._replace(child.number, self._reactor.seconds() - child.started_at)
        self._check_stopped()

    # How it is done

    def _open(self, child: WorkerProcess) -> None:
        """From now on it counts, although it may need a moment to hear of it."""
        self._scoreboard.heartbeat(child.number, time.monotonic_ns())
        child.send_command(WorkerCommand.OPEN)

    def _flush_recordings(self) -> None:
        able = sorted((child for child in self if child.instance_id), key=lambda child: child.is_shut)
        if able and (self._phase is GenerationPhase.STOPPING or not able[0].is_shut):
            owed, self._unrecorded = self._unrecorded, []
            for holder in owed:
                able[0].send_command(WorkerCommand.RECORD_LOST, holder)

    def _start(self, number: int) -> None:
        self._restarts.pop(number, None)
        shared = self._config, self._sockets, self._state, self._scoreboard.descriptor, self._wakes
        order, handed_down = WorkerConfig.handing_down(number, self.plan, *shared)
        child = self._make_process(order, self, self._reactor)
        try:
            child.start(handed_down)
        except OSError as error:
            why = f"{child} cannot be started: {sys.executable}: {explain(error)}"
            self._log.error("{why}", why=why)
            if self._phase is GenerationPhase.STARTING:
                self._set_ready(StartupError(why))
            else:
                self._replace(number, 0.0)
        else:
            self._processes[number] = child
            if self._phase is GenerationPhase.SERVING:
                self._reactor.callLater(START_TIMEOUT, self._on_start_timeout, child)

    def _on_start_timeout(self, child: WorkerProcess) -> None:
        if not child.instance_id and child in self._processes.values():
            self._log.error("{child} was not ready within {time:g} s", child=child, time=START_TIMEOUT)
            child.signal(signal.SIGKILL)

    def _check_heartbeats(self) -> None:
        shares = self._scoreboard.loads()
        signs = {child.number: shares[child.number].heartbeat_at for child in self if child.instance_id}
        for number, verdict in self._watchdog.check(signs).items():
            self._log.error("worker {number} {verdict}", number=number, verdict=verdict.value)
            if verdict is WorkerHealth.LOST:
                self._processes[number].signal(signal.SIGKILL)

    def _replace(self, number: int, lived: float) -> None:
        delay = self._backoffs[number].next_delay(lived)
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

    def _send_all(self, word: WorkerCommand) -> None:
        for child in self:
            child.send_command(word)

    def _kill(self, child: WorkerProcess) -> None:
        if child in self._processes.values():
            child.signal(signal.SIGKILL)

    def _check_stopped(self) -> None:
        if self._phase is not GenerationPhase.STOPPING:
            return
        if not self.stopped_accepting.called and all(child.is_shut for child in self):
            self.stopped_accepting.callback(None)
        if not self.exited.called and not self._processes:
            if self._check_timer.running:
                self._check_timer.stop()
            for descriptor in self._wakes:
                os.close(descriptor)
            self._scoreboard.close()
            self.exited.callback(None)

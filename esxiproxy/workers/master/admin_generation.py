"""The admin process of one configuration, which is started again when it exits."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.process.descriptors import explain
from esxiproxy.workers.master.admin_process import AdminProcess
from esxiproxy.workers.master.backoff import Backoff
from esxiproxy.workers.master.deadline import with_timeout
from esxiproxy.workers.master.generation import ABORT_TIMEOUT, START_TIMEOUT, GenerationPhase
from esxiproxy.workers.master.watchdog import CHECK_INTERVAL, Watchdog, WorkerHealth
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import AdminCommand, AdminConfig, Facts
from esxiproxy.workers.shared.messages import Launch
from esxiproxy.workers.shared.reactor import IProcessReactor

END_TIMEOUT = 2.0
"""Seconds that the requests in progress get when the admin process ends."""
SERVICES_TIMEOUT = 2.0
"""Seconds that the plugins of ``services`` get to stop before a new admin process starts its own."""
DESCRIPTORS = 3
"""Descriptors of the master for one admin process: its pipes."""


class AdminGeneration:
    """The admin process of one plan; a process that exits between ``open`` and ``end`` is replaced.

    ``exited`` fires when the process has exited after ``end`` or ``end_now``.  ``on_crash`` is called with
    the instance ID of a crashed process.  ``facts`` returns the facts about the proxy, and ``reload`` reloads
    it.
    """

    _log = Logger()

    def __init__(
        self,
        plan: Plan,
        launch: Launch,
        sockets: Mapping[str, int],
        facts: Callable[[], Facts],
        reload: Callable[[], Deferred[ReloadOutcome]],
        on_crash: Callable[[str], object],
        reactor: IProcessReactor,
        make_process: Callable[..., AdminProcess] = AdminProcess,
    ) -> None:
        self.exited: Deferred[None] = Deferred()
        self._config, self._inherited = AdminConfig.of(plan, launch, sockets)
        self._environment = launch.environment
        self._facts = facts
        self._reload = reload
        self._on_crash = on_crash
        self._reactor = reactor
        self._make_process = make_process
        self._phase = GenerationPhase.STARTING
        self._process: AdminProcess | None = None
        self._backoff = Backoff(0.0)
        self._restart: IDelayedCall | None = None
        self._restart_at: float | None = None
        """The time of the next start, None if none is due."""
        self._is_held = False
        """Whether no process may be started: another generation may run the plugins of ``services``."""
        self._ready: Deferred[None] = Deferred()
        self._watchdog = Watchdog()
        self._check_timer = LoopingCall(self._check_heartbeat)
        self._check_timer.clock = reactor

    def start(self) -> Deferred[None]:
        """Start the process.  The Deferred fires when it is ready, or fails with StartupError."""
        self._start()
        timeout = StartupError(f"the admin process was not ready within {START_TIMEOUT:g} s")
        return with_timeout(START_TIMEOUT, self._ready, timeout, self._reactor)

    def open(self) -> None:
        """Let the process serve the sockets, and start to check its heartbeats."""
        self._phase = GenerationPhase.SERVING
        if self._process is not None:
            self._open(self._process)
        else:  # it has exited since it was ready
            self._start_again(0.0)
        self._check_timer.start(CHECK_INTERVAL, now=False)

    def send_facts(self) -> None:
        """Send the facts about the proxy to the process."""
        if self._process is not None:
            self._process.send_facts(self._facts())

    def stop_services(self) -> Deferred[None]:
        """Stop the plugins of ``services``, and start no process until ``start_services``.

        The Deferred fires when they have stopped, or after 2 s.  A process that is not ready yet is ended;
        then the Deferred fires when it has exited.
        """
        self._is_held = True
        self._cancel_restart()
        stopped: Deferred[None] = Deferred()
        process = self._process
        if process is None:
            stopped.callback(None)
            return stopped
        process.services_stopped = stopped
        if not process.instance_id:
            self._end(process, AdminCommand.NOW, ABORT_TIMEOUT)
            return stopped
        process.send_command(AdminCommand.STOP_SERVICES)
        return stopped.addTimeout(SERVICES_TIMEOUT, self._reactor, onTimeoutCancel=lambda *_: None)

    def start_services(self) -> None:
        """Undo ``stop_services``: start the plugins of ``services`` again, or the process that has exited."""
        self._is_held = False
        if self._restart_at is not None:
            self._schedule_restart(self._restart_at)
        if self._process is not None and self._process.instance_id:
            self._process.send_command(AdminCommand.START_SERVICES)

    def end(self) -> None:
        """End the process when it has the outcomes of the reloads that it has requested."""
        self._stop()
        if self._process is not None and not self._process.reloads:
            self._end(self._process, AdminCommand.END, END_TIMEOUT + ABORT_TIMEOUT)

    def end_now(self) -> None:
        """End the process at once."""
        self._stop()
        if self._process is not None:
            self._end(self._process, AdminCommand.NOW, ABORT_TIMEOUT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.signal(number)

    # Events of the process

    def ready(self, child: AdminProcess) -> None:
        if self._phase is GenerationPhase.SERVING:
            self._open(child)
            self._log.info("{process} is ready", process=child)
        elif self._phase is GenerationPhase.STARTING:
            self._set_ready(None)

    def reload_requested(self, child: AdminProcess) -> Deferred[ReloadOutcome]:
        return self._reload()

    def answered(self, child: AdminProcess) -> None:
        if self._phase is GenerationPhase.STOPPING:
            self.end()

    def ended(self, child: AdminProcess) -> None:
        self._process = None
        if child.exit_reason:
            self._log.error("{process} {why}", process=child, why=child.exit_reason)
            if child.instance_id:
                self._on_crash(child.instance_id)
        if not child.services_stopped.called:
            child.services_stopped.callback(None)
        if self._phase is GenerationPhase.STARTING:
            self._set_ready(StartupError(f"{child} {child.exit_reason or 'has exited'}"))
        elif self._phase is GenerationPhase.SERVING:
            self._start_again(self._reactor.seconds() - child.started_at)
        self._check_exited()

    def _start(self) -> None:
        self._restart = self._restart_at = None
        process = self._make_process(self._config, self, self._reactor, self._environment)
        try:
            process.start(self._inherited)
        except OSError as error:
            why = f"{process} cannot be started: {sys.executable}: {explain(error)}"
            self._log.error("{why}", why=why)
            if self._phase is GenerationPhase.STARTING:
                self._set_ready(StartupError(why))
            else:
                self._start_again(0.0)
        else:
            self._process = process
            if self._phase is GenerationPhase.SERVING:
                self._reactor.callLater(START_TIMEOUT, self._on_start_timeout, process)

    def _start_again(self, lifetime: float) -> None:
        delay = self._backoff.next_delay(lifetime)
        self._restart_at = self._reactor.seconds() + delay
        if self._is_held:
            self._log.error("admin process is not started again before the reload has ended")
            return
        again = "at once" if not delay else f"in {delay:g} s"
        self._log.error("admin process is started again {again}", again=again)
        self._schedule_restart(self._restart_at)

    def _schedule_restart(self, time: float) -> None:
        self._cancel_restart()
        self._restart = self._reactor.callLater(max(0.0, time - self._reactor.seconds()), self._start)

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _on_start_timeout(self, process: AdminProcess) -> None:
        if not process.instance_id and process is self._process:
            self._log.error("{process} was not ready within {time:g} s", process=process, time=START_TIMEOUT)
            process.signal(signal.SIGKILL)

    def _open(self, process: AdminProcess) -> None:
        process.send_facts(self._facts())
        process.send_command(AdminCommand.OPEN)

    def _check_heartbeat(self) -> None:
        process = self._process
        found = {0: process.heartbeat_at} if process is not None and process.instance_id else {}
        for health in self._watchdog.check(found).values():
            self._log.error("admin process {health}", health=health.value)
            if health is WorkerHealth.LOST and process is not None:
                process.signal(signal.SIGKILL)

    def _stop(self) -> None:
        self._phase = GenerationPhase.STOPPING
        self._cancel_restart()
        self._restart_at = None
        self._set_ready(StartupError("the proxy is shutting down"))
        self._check_exited()

    def _end(self, process: AdminProcess, command: AdminCommand, seconds: float) -> None:
        process.send_command(command)
        self._reactor.callLater(seconds, self._kill, process)

    def _kill(self, process: AdminProcess) -> None:
        if process is self._process:
            process.signal(signal.SIGKILL)

    def _set_ready(self, error: StartupError | None) -> None:
        if self._ready.called:
            return
        if error is None:
            self._ready.callback(None)
        else:
            self._ready.errback(error)

    def _check_exited(self) -> None:
        if self._phase is GenerationPhase.STOPPING and self._process is None and not self.exited.called:
            if self._check_timer.running:
                self._check_timer.stop()
            self.exited.callback(None)

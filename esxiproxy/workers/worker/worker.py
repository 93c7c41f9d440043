"""A worker: serves inherited sockets, and executes the commands of the master."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from esxiproxy.app.service import ProxyService
from esxiproxy.core.config.loader import Config
from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.startup import StartupError
from esxiproxy.net.listener.service import ListenerService
from esxiproxy.ops.manhole.service import ManholeService
from esxiproxy.ops.manhole.worker_shells import socket_path
from esxiproxy.ops.process.gc_freeze import GCFreeze
from esxiproxy.workers.plan import plan_of, state_of
from esxiproxy.workers.shared.messages import WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.shared.scoreboard import Scoreboard
from esxiproxy.workers.worker.accept_gate import AcceptGate
from esxiproxy.workers.worker.crash_recovery import CrashRecorder
from esxiproxy.workers.worker.report_pipe import ReportPipe


class Worker(MultiService):
    """The proxy in a worker process, controlled by the master.

    It accepts connections from the command ``open`` on.  A command that ends the worker calls ``stop``.  The
    worker reports ``ready`` with its instance ID in the shared state, ``shut`` when it stops accepting, and
    ``buried`` with the instance ID of a crashed worker whose sessions are recorded.
    """

    _log = Logger()

    def __init__(
        self,
        worker: WorkerConfig,
        config: Config,
        reactor: IProcessReactor,
        reports: ReportPipe,
        stop: Callable[[], None],
    ) -> None:
        super().__init__()
        if plan_of(config).endpoints != worker.endpoints:
            raise StartupError(f"the listeners of {worker.config} are not those that the master has bound")
        self._sockets = {name: socket.socket(fileno=number) for name, number in worker.listeners.items()}
        scoreboard = Scoreboard(worker.board, len(worker.wakes))
        self._gate = AcceptGate(worker.number, scoreboard, worker.wakes, reactor)
        self._reactor = reactor
        self._reports = reports
        self._stop = stop
        self._is_shut = False
        # The admin process has the manhole, unless the workers inherit its socket.
        has_manhole = bool(worker.shells) or MANHOLE in worker.listeners
        own = replace(
            config,
            state=state_of(config, worker.state),
            services=self._services(worker, config),
            admin=None,
            manhole=config.manhole if has_manhole else None,
            warnings=(),  # the master logs them once
        )
        shell: Path | None = None
        if worker.shells:
            shell = socket_path(Path(worker.shells), worker.number, worker.generation)
        sites = PrivateSites(Path(worker.sockets), worker.generation) if worker.sockets else None
        if config.has_portal and sites is None:
            self._log.error("the portal needs a master of this version: restart the proxy")
        self._proxy = ProxyService(own, reactor, self._sockets, worker.identity, shell, sites)
        self._proxy.setServiceParent(self)
        proxy = self._proxy.proxy
        self._crash_recorder = CrashRecorder(proxy.state.reclaim, proxy.sessions.record_lost, reactor)
        GCFreeze(reactor).setServiceParent(self)

    def _services(self, worker: WorkerConfig, config: Config) -> tuple[str, ...]:
        """Return the plugins of ``services`` that run in this worker, which there are under old masters only.

        Several instances of a service may conflict, so only the first worker runs them.
        """
        if worker.master_has_admin or worker.number != 0:
            return ()
        if config.admin is not None:
            what = "[admin] is" if config.manhole is None else "[admin] and the manhole are"
            self._log.error(
                "{what} not served, since the running master is of an older version: restart the proxy",
                what=what,
            )
        return config.services

    def startService(self) -> None:
        super().startService()
        ports = [service.port for service in _services_of_type(self, ListenerService | ManholeService)]
        for sock in self._sockets.values():  # the ports have duplicates
            sock.close()
        self._gate.attach(port for port in ports if port is not None)
        self._proxy.ready.addCallback(self._report_ready)

    def _report_ready(self, ready: bool) -> bool:
        if ready:
            self._reactor.callLater(0, self._reports.send, "ready", self._proxy.proxy.state.instance_id)
        return ready

    def stopService(self) -> Any:
        self._shut_gate(self._proxy.draining_ports)
        return super().stopService()

    def abort(self) -> None:
        """Finish a stop at once: close all sessions."""
        self._proxy.abort()

    def command_received(self, name: str, *arguments: str) -> None:
        """Execute a command of the master."""
        command = WorkerCommand(name)
        if command is WorkerCommand.OPEN:
            if not self._is_shut:
                self._gate.open()
        elif command is WorkerCommand.RETIRE:
            self._retire()
        elif command is WorkerCommand.NOW:
            self._stop()
            self.abort()
        elif command is WorkerCommand.RECORD_LOST:
            recording = Deferred.fromCoroutine(self._record_crashed(*arguments))
            recording.addErrback(
                lambda failure: self._log.failure("cannot record the sessions of a crashed worker", failure)
            )
        else:
            self._stop()

    def master_lost(self) -> None:
        """Drain without any listening socket, so that a new master can bind all addresses at once."""
        self._shut_gate()
        self._gate.close()  # a drain may have left ports open that answer health checks
        closing = self._proxy.close_ports()
        closing.addErrback(lambda failure: self._log.failure("cannot close the listeners", failure))
        self._stop()

    def _retire(self) -> None:
        self._shut_gate()
        retiring = self._proxy.retire()
        retiring.addErrback(lambda failure: self._log.failure("cannot close the idle sessions", failure))
        retiring.addCallback(lambda _: self._stop())

    def _shut_gate(self, kept: Iterable[Any] = ()) -> None:
        """Stop accepting at all ports but the ``kept`` ones, which answer health checks."""
        if not self._is_shut:
            self._is_shut = True
            self._gate.drain(kept)
            self._reports.send("shut")

    async def _record_crashed(self, instance_id: str) -> None:
        await self._crash_recorder.record_sessions(instance_id)
        self._reports.send("buried", instance_id)


def _services_of_type(services: Any, kind: Any) -> Iterator[Any]:
    """Yield the services of a type at any depth of the tree."""
    for service in services:
        if isinstance(service, kind):
            yield service
        yield from _services_of_type(IServiceCollection(service, ()), kind)

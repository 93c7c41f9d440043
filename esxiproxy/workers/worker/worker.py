"""One worker: the proxy on sockets that it was handed down, and what the master wants of it."""

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
from esxiproxy.core.startup import StartupError
from esxiproxy.net.listener.service import ListenerService
from esxiproxy.ops.manhole.service import ManholeService
from esxiproxy.ops.process.gc_freeze import GCFreeze
from esxiproxy.workers.plan import plan_of
from esxiproxy.workers.shared.messages import WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.scoreboard import Scoreboard
from esxiproxy.workers.worker.accept_gate import AcceptGate
from esxiproxy.workers.worker.crash_recovery import CrashRecorder
from esxiproxy.workers.worker.report_pipe import ReportPipe


class Worker(MultiService):
    """Serves from ``open`` on, until it is told to retire or to drain; then ``ended`` is called.

    What it tells the master: ``ready`` with its name as a holder of shared state, ``shut`` when it accepts no
    more.  A worker that nobody tells anything any more drains: its master is gone.
    """

    _log = Logger()

    def __init__(
        self,
        order: WorkerConfig,
        config: Config,
        reactor: Any,
        reports: ReportPipe,
        ended: Callable[[], None],
    ) -> None:
        super().__init__()
        if plan_of(config).endpoints != order.endpoints:
            raise StartupError(f"{order.config} has other listeners than those that are bound")
        self._sockets = {name: socket.socket(fileno=number) for name, number in order.listeners.items()}
        board = Scoreboard(order.board, len(order.wakes))
        self._gate = AcceptGate(order.number, board, order.wakes, reactor)
        self._reactor = reactor
        self._reports = reports
        self._ended = ended
        self._shut = False
        own = replace(
            config,
            state=Path(order.state),
            # One of these is enough, and two may not go together.
            beside=config.beside if order.number == 0 else (),
            warnings=(),  # the master logs them once
        )
        self._proxy = ProxyService(own, reactor, inherited=self._sockets)
        self._proxy.setServiceParent(self)
        proxy = self._proxy.proxy
        self._crash_recorder = CrashRecorder(proxy.state.reclaim, proxy.sessions.record_lost, reactor)
        GCFreeze(reactor).setServiceParent(self)

    def startService(self) -> None:
        super().startService()
        ports = [service.port for service in _all(self, ListenerService | ManholeService)]
        for sock in self._sockets.values():  # the ports have them now
            sock.close()
        self._gate.attach(port for port in ports if port is not None)
        self._reactor.callLater(0, self._reports.send, "ready", self._proxy.proxy.state.instance_id)

    def stopService(self) -> Any:
        self._shut_gate(self._proxy.draining_ports)
        return super().stopService()

    def abort(self) -> None:
        """End at once what is ending."""
        self._proxy.abort()

    def command_received(self, word: WorkerCommand, *content: str) -> None:
        """Do as the master says."""
        if word is WorkerCommand.OPEN:
            if not self._shut:
                self._gate.open()
        elif word is WorkerCommand.RETIRE:
            self._retire()
        elif word is WorkerCommand.NOW:
            self._ended()
            self.abort()
        elif word is WorkerCommand.RECORD_LOST:
            burying = Deferred.fromCoroutine(self._record_crashed(*content))
            burying.addErrback(lambda failure: self._log.failure("nobody was buried", failure))
        else:
            self._ended()

    def master_lost(self) -> None:
        """Drain without any listening socket, so that a new master can bind all addresses at once."""
        self._shut_gate()
        self._gate.close()  # a drain may have left ports open that answer health checks
        closing = self._proxy.close_ports()
        closing.addErrback(lambda failure: self._log.failure("closing the listeners failed", failure))
        self._ended()

    def _retire(self) -> None:
        self._shut_gate()
        retiring = self._proxy.retire()
        retiring.addErrback(lambda failure: self._log.failure("a worker cannot retire", failure))
        retiring.addCallback(lambda _: self._ended())

    def _shut_gate(self, kept: Iterable[Any] = ()) -> None:
        """Accept no more, but at these ports."""
        if not self._shut:
            self._shut = True
            self._gate.drain(kept)
            self._reports.send("shut")

    async def _record_crashed(self, holder: str) -> None:
        await self._crash_recorder.of(holder)
        self._reports.send("buried", holder)


def _all(services: Any, kind: Any) -> Iterator[Any]:
    """The services of a kind, however deep they are in the tree."""
    for service in services:
        if isinstance(service, kind):
            yield service
        yield from _all(IServiceCollection(service, ()), kind)

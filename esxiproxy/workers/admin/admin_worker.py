"""The admin process: executes the commands of the master."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.app.admin_host import AdminHost
from esxiproxy.core.config.loader import Config
from esxiproxy.core.config.model import ADMIN_SOCKET
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.process.gc_freeze import GCFreeze
from esxiproxy.workers.admin.control import MasterControl
from esxiproxy.workers.plan import plan_of, state_of
from esxiproxy.workers.shared.admin_messages import AdminCommand, AdminConfig, Facts
from esxiproxy.workers.shared.reactor import IProcessReactor
from esxiproxy.workers.worker.report_pipe import ReportPipe

Endpoints = tuple[tuple[str, str], ...]


class AdminWorker(MultiService):
    """The services of the admin process, controlled by the master.

    It serves the sockets of [admin] from the command ``open`` on.  A command that ends the process calls
    ``stop``.  It reports ``ready`` with its instance ID in the shared state, ``alive`` for each message with
    facts, ``reload`` with a number that the outcome repeats, and ``services stopped``.
    """

    _log = Logger()

    def __init__(
        self,
        admin_config: AdminConfig,
        config: Config,
        reactor: IProcessReactor,
        reports: ReportPipe,
        stop: Callable[[], None],
    ) -> None:
        super().__init__()
        if _checked(plan_of(config).admin_endpoints, config) != _checked(admin_config.endpoints, config):
            raise StartupError(f"the sockets of [admin] in {admin_config.config} are not those of the master")
        self._sockets = {name: socket.socket(fileno=number) for name, number in admin_config.sockets.items()}
        own = replace(config, state=state_of(config, admin_config.state))
        make_control = partial(self._make_control, admin_config, own, reports.send, reactor)
        self._reactor = reactor
        self._reports = reports
        self._stop = stop
        self._host = AdminHost(
            own,
            make_control,
            reactor,
            self._sockets,
            lambda: self._control.workers,
            Path(admin_config.shells) if admin_config.shells else None,
            _sites(admin_config),
        )
        self._host.setServiceParent(self)
        GCFreeze(reactor).setServiceParent(self)

    def _make_control(
        self, admin_config: AdminConfig, config: Config, send: Any, reactor: IProcessReactor, state: Any
    ) -> MasterControl:
        self._control = MasterControl(admin_config, config, state, send, reactor)
        return self._control

    def startService(self) -> None:
        super().startService()
        self._host.ready.addCallbacks(self._report_ready, self._on_failure)

    def _report_ready(self, ready: bool) -> None:
        self._reactor.callLater(0, self._reports.send, "ready", self._host.state.instance_id)

    def _on_failure(self, failure: Failure) -> None:
        """End the process, which the master then replaces."""
        if failure.check(StartupError):
            self._log.critical("{error}: the process ends", error=failure.value)
        else:
            self._log.failure("internal error: the process ends", failure)
        self._reactor.callLater(0, self._stop)

    def abort(self) -> None:
        """Finish a stop at once."""
        self._host.abort()

    def command_received(self, name: str, *arguments: Any) -> None:
        """Execute a command of the master; ignore that of a later version."""
        try:
            command = AdminCommand(name)
        except ValueError:
            return
        if command is AdminCommand.OPEN:
            opening = Deferred.fromCoroutine(self._host.open())
            opening.addCallbacks(lambda _: self._close_sockets(), self._on_failure)
        elif command is AdminCommand.FACTS:
            (facts,) = arguments
            self._control.facts_received(Facts.of(facts))
            self._reports.send("alive")
        elif command is AdminCommand.RELOADED:
            request, reloaded, problems = arguments
            self._control.reload_ended(request, ReloadOutcome(bool(reloaded), tuple(map(str, problems))))
        elif command is AdminCommand.STOP_SERVICES:
            stopping = Deferred.fromCoroutine(self._host.stop_services())
            stopping.addBoth(lambda _: self._reports.send("services stopped"))
        elif command is AdminCommand.START_SERVICES:
            Deferred.fromCoroutine(self._host.start_services()).addErrback(self._on_failure)
        else:
            self._stop()
            if command is AdminCommand.NOW:
                self.abort()

    def master_lost(self) -> None:
        """End the process, since its master has exited."""
        self._control.master_lost()
        self._close_sockets()
        self._stop()

    def _close_sockets(self) -> None:
        """Close the inherited sockets, of which the ports have duplicates."""
        for sock in self._sockets.values():
            sock.close()


def _sites(admin_config: AdminConfig) -> PrivateSites | None:
    """Return the private sites, if the master has a folder for them."""
    folder = admin_config.private_sockets
    return PrivateSites(Path(folder), admin_config.generation) if folder else None


def _checked(endpoints: Endpoints, config: Config) -> Mapping[str, str]:
    """Return the sockets by their names, without the endpoint of a default.

    The path of a default socket depends on folders that exist, which may have changed since the master bound
    it.
    """
    is_default = ("admin", "socket") not in config.lines
    return {name: "" if name == ADMIN_SOCKET and is_default else endpoint for name, endpoint in endpoints}

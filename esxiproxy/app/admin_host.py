"""The services of the admin process: everything that its service and its plugins need, and no listener."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    TimeoutError,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.logger import Logger

from esxiproxy.app.admin import AdminSlot
from esxiproxy.app.admin_parts import admin_parts
from esxiproxy.app.admin_report import AdminReport
from esxiproxy.app.control import ProcessControl
from esxiproxy.app.extra_services import ExtraServices
from esxiproxy.app.manhole import AdminManhole
from esxiproxy.app.plugins import Plugins
from esxiproxy.app.portal import PortalService, provider_sections
from esxiproxy.app.portal_parts import portal_parts
from esxiproxy.app.private_site import PrivateSite
from esxiproxy.app.tickets import tickets_site
from esxiproxy.app.vsphere import VSphereLogins
from esxiproxy.authenticators.login_store import end_logins_of
from esxiproxy.core.config.loader import Config
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.core.session.drain_table import DrainTable
from esxiproxy.interfaces import IState
from esxiproxy.net.tls.server import listener_context
from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.ops.manhole.worker_shells import WorkerView
from esxiproxy.ops.metrics.files import ENVIRONMENT as METRICS_FOLDER
from esxiproxy.ops.metrics.merge_service import MergeService
from esxiproxy.ops.process.loop_lag import LoopLag
from esxiproxy.state.factory import open_state
from esxiproxy.web.client import HttpClient

STOP_TIMEOUT = 3.0
"""Seconds within which each service has to stop."""


class NoSessions:
    """The sessions of a process without listeners, of which there are none.

    A plugin that ends sessions ends those of all processes.
    """

    _log = Logger()
    sessions: tuple[Any, ...] = ()

    def __init__(self, state: IState) -> None:
        self.state = state

    def end_sessions(self, selector: Selector, reason: str, section: str = "") -> None:
        """Close the sessions of all processes that a selector selects, and end the logins of a principal."""
        command = Command(CommandKind.KILL, reason=reason, selector=selector)
        telling = maybeDeferred(self.state.tell, command)
        telling.addErrback(
            lambda failure: self._log.error(
                "[{section}] cannot end sessions of other processes: {error}",
                section=section,
                error=failure.value,
            )
        )
        if selector.kind is SelectorKind.PRINCIPAL:
            ending = Deferred.fromCoroutine(end_logins_of(self.state, selector.value))
            ending.addErrback(
                lambda failure: self._log.error(
                    "[{section}] cannot end logins on the portal: {error}",
                    section=section,
                    error=failure.value,
                )
            )


class AdminHost(MultiService):
    """The services of the admin process.

    The plugins of ``services`` run from the start on.  The sockets of [admin] are served from ``open`` on.
    ``make_control`` returns the control for the state of this process, and ``inherited`` has the sockets by
    their names.  Nothing is counted here, and no console is admitted.  ``workers`` returns the workers of the
    proxy, and ``shells`` is the folder of their private sockets, None without a manhole.  ``sites`` are those
    that this process has for the workers, None if they need none.  ``vsphere`` has the machines of the
    vCenters.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        make_control: Callable[[IState], ProcessControl],
        reactor: Any,
        inherited: Mapping[str, socket.socket],
        workers: Callable[[], Sequence[WorkerView]] = tuple,
        shells: Path | None = None,
        sites: PrivateSites | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor = with_fast_transports(reactor)
        self._config = config
        self.state = open_state(config.state, reactor, reactor)
        self.control = make_control(self.state)
        self._http = HttpClient(reactor)
        self._plugins = Plugins(reactor, NoSessions(self.state), self._http)
        self._extra_services = ExtraServices(reactor)
        logins = VSphereLogins(config, self._http, reactor)
        self.vsphere = logins.vsphere
        drainer = DrainTable(self.state, self.control.identity, time.time)
        self._slot = AdminSlot(
            reactor,
            lambda: admin_parts(self.control, drainer, partial(_expose, self.control), reactor),
            inherited,
        )
        self._aborted = False
        self._steps: set[Deferred[Any]] = set()
        """The steps of the stop that have yet to end."""
        self._services_lock = DeferredLock()
        if folder := os.environ.get(METRICS_FOLDER):
            MergeService(Path(folder), self.control.in_thread, reactor).setServiceParent(self)
        loop_lag = LoopLag(reactor)
        self._report = AdminReport(
            self.state, self.control.identity, reactor, version("esxiproxy"), loop_lag.take_longest
        )
        for service in (loop_lag, self._report, self._plugins, self._extra_services, logins, self._slot):
            service.setServiceParent(self)
        self._instances = self._plugins.create(replace(config, listeners=()), provider_sections(config))
        self._plugins.begin(self._instances)
        self._extra_services.create(config)
        if config.admin is not None and config.admin.tls is not None:
            listener_context(config.admin.tls)  # the start fails here if a file is wrong
        self._manhole: AdminManhole | None = None
        if config.manhole is not None and shells is not None:
            self._manhole = AdminManhole(config, self.control, workers, shells, inherited, reactor)
            self._manhole.setServiceParent(self)
        self._tickets: PrivateSite | None = None
        if config.vspheres and sites is not None:
            self._tickets = tickets_site(config, self.vsphere, sites, reactor)
            self._tickets.setServiceParent(self)
        self._portal: PortalService | None = None
        if config.has_portal and sites is not None:
            plugins = {section: instance.plugin for section, instance in self._instances.items()}
            parts = portal_parts(config, self.vsphere, self.state)
            self._portal = PortalService(config, self.state, plugins, parts, sites, reactor)
            self._portal.setServiceParent(self)
        self.ready: Deferred[bool] = succeed(False)
        """Fires when all plugins of [admin] are ready, or fails with StartupError."""

    def startService(self) -> None:
        starting = maybeDeferred(self.state.start, lambda command: None)
        starting.addErrback(
            lambda failure: self._log.error(
                "start of the shared state failed, actions fail until it can be reached: {error}",
                error=failure.value,
            )
        )
        super().startService()
        self.ready = Deferred.fromCoroutine(self._plugins.ready())

    async def open(self) -> None:
        """Serve the private sites, and the sockets of [admin] and of the manhole.  Raises StartupError."""
        if self._tickets is not None:
            self._tickets.open()
        plugins = {section: instance.plugin for section, instance in self._instances.items()}
        async with AsyncExitStack() as undo:
            bound = self._slot.bind(self._config, plugins, undo)
            undo.pop_all()
        self._slot.serve(bound, self._config)
        if self._portal is not None:
            self._portal.open()
        self._report.accepting = True
        if self._manhole is not None:
            self._manhole.open()

    async def stop_services(self) -> None:
        """Stop the plugins of ``services``."""
        await self._services_lock.run(lambda: Deferred.fromCoroutine(self._stop_services()))

    async def start_services(self) -> None:
        """Start the plugins of ``services`` that ``stop_services`` has stopped, when it has ended."""
        await self._services_lock.run(self._start_services)

    async def _stop_services(self) -> None:
        if self._extra_services.running:
            await self._step("the plugins of services", self._extra_services.stopService)

    def _start_services(self) -> None:
        if not self._extra_services.running and self.running:
            self._extra_services.privilegedStartService()
            self._extra_services.startService()

    def stopService(self) -> Deferred[None]:
        self.running = 0
        return Deferred.fromCoroutine(self._stop())

    def abort(self) -> None:
        """Wait no longer for a service that has yet to stop."""
        self._aborted = True
        for step in list(self._steps):
            step.cancel()

    async def _stop(self) -> None:
        # Sites answer the requests in flight, for which the plugins and the logins at vCenters are needed.
        sites = (self._slot, self._tickets, self._portal)
        first = [service for service in sites if service is not None]
        services = [service for service in self if service not in (self._extra_services, *first)]
        closing = (self._step(type(service).__name__, service.stopService) for service in first)
        await gatherResults([Deferred.fromCoroutine(each) for each in closing])
        await self.stop_services()
        for service in services:
            await self._step(type(service).__name__, service.stopService)
        await self._step("the HTTP client", self._http.close)
        await self._step("the report of this process", lambda: Deferred.fromCoroutine(self._report.finish()))
        await self._step("the shared state", self.state.stop)

    async def _step(self, name: str, step: Callable[[], Any]) -> None:
        """Wait for one step of the stop, for at most 3 s, or not at all after an abort."""
        ending = maybeDeferred(step)
        ending.addTimeout(0.0 if self._aborted else STOP_TIMEOUT, self._reactor)
        self._steps.add(ending)
        try:
            await ending
        except (CancelledError, TimeoutError):
            self._log.warn("timed out waiting for {name} to stop; the stop continues without it", name=name)
        except Exception:
            self._log.failure("cannot stop {name}; the stop continues without it", name=name)
        finally:
            self._steps.discard(ending)


async def _expose(control: ProcessControl, accept: str, extra: Any) -> tuple[str, bytes]:
    """Return the metrics of all processes, which are in the folder that the master has set."""
    from esxiproxy.ops.metrics.exposition import expose  # prometheus-client is an optional dependency

    folder = Path(os.environ[METRICS_FOLDER])
    found: tuple[str, bytes] = await control.in_thread(expose, folder, accept, extra)
    return found

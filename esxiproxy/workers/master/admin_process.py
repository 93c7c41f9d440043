"""The admin process, as a process protocol in the master."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.workers.master.child_process import ChildProcess
from esxiproxy.workers.shared.admin_messages import ADMIN, AdminCommand, AdminConfig, Facts
from esxiproxy.workers.shared.reactor import IProcessReactor


class AdminEvents(Protocol):
    """The events of an admin process, which its supervisor handles."""

    def ready(self, child: AdminProcess) -> None:
        """Handle that the process waits for the command to open."""

    def reload_requested(self, child: AdminProcess) -> Deferred[ReloadOutcome]:
        """Reload the proxy, and return the outcome."""

    def answered(self, child: AdminProcess) -> None:
        """Handle that the process has the outcome of each reload that it has requested."""

    def ended(self, child: AdminProcess) -> None:
        """Handle that the process has exited."""


class AdminProcess(ChildProcess):
    """The admin process, which receives commands, and whose reports are read."""

    def __init__(
        self,
        config: AdminConfig,
        events: AdminEvents,
        reactor: IProcessReactor,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__("admin process", ADMIN, config.config, config.line(), reactor, environment)
        self.heartbeat_at = 0.0
        """The time of the latest sign of life: that it is ready, or an answer to facts."""
        self.reloads = 0
        """The number of requested reloads without an outcome."""
        self.services_stopped: Deferred[None] = Deferred()
        """Fires when the plugins of ``services`` have stopped after the command for it."""
        self._events = events
        self._is_asked = False

    def send_command(self, command: AdminCommand, *arguments: Any) -> None:
        """Send a command; a process that has exited does not receive it."""
        self.send(command.value, *arguments)

    def send_facts(self, facts: Facts) -> None:
        """Send facts, unless the process is not ready or has not answered those before."""
        if self.instance_id and not self._is_asked:
            self._is_asked = True
            self.send_command(AdminCommand.FACTS, facts.content())

    def on_report(self, kind: str, *content: Any) -> None:
        if kind == "ready":
            (self.instance_id,) = content
            self.heartbeat_at = self._reactor.seconds()
            self._events.ready(self)
        elif kind == "alive":
            self.heartbeat_at = self._reactor.seconds()
            self._is_asked = False
        elif kind == "services stopped":
            if not self.services_stopped.called:
                self.services_stopped.callback(None)
        elif kind == "reload":
            self.reloads += 1
            self._events.reload_requested(self).addCallback(self._send_outcome, *content)

    def _send_outcome(self, outcome: ReloadOutcome, request: int) -> None:
        self.send_command(AdminCommand.RELOADED, request, outcome.reloaded, outcome.problems)
        self.reloads -= 1
        if not self.reloads:
            self._events.answered(self)

    def on_end(self) -> None:
        self._events.ended(self)

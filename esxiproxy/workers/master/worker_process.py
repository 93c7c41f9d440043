"""The process of a worker, as a process protocol in the master."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from esxiproxy.workers.master.child_process import ChildProcess
from esxiproxy.workers.shared.messages import WorkerCommand, WorkerConfig
from esxiproxy.workers.shared.reactor import IProcessReactor


class WorkerEvents(Protocol):
    """The events of a worker, which its generation handles."""

    def ready(self, child: WorkerProcess) -> None:
        """Handle that the worker waits for the command to open."""

    def closed(self, child: WorkerProcess) -> None:
        """Handle that the worker has stopped accepting connections."""

    def ended(self, child: WorkerProcess) -> None:
        """Handle that the process has exited."""


class WorkerProcess(ChildProcess):
    """A worker process, which receives commands, and whose reports are read."""

    def __init__(
        self,
        worker_config: WorkerConfig,
        events: WorkerEvents,
        reactor: IProcessReactor,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.number = worker_config.number
        super().__init__(
            f"worker {self.number}",
            str(self.number),
            worker_config.config,
            worker_config.line(),
            reactor,
            environment,
        )
        self.has_stopped_accepting = False
        self.recording: set[str] = set()
        """Instance IDs of crashed workers whose sessions this worker is recording."""
        self._events = events

    def send_command(self, command: WorkerCommand, *arguments: str) -> None:
        """Send a command; a worker that has exited does not receive it."""
        if command is WorkerCommand.RECORD_LOST:
            self.recording.update(arguments)
        self.send(command.value, *arguments)

    def on_report(self, kind: str, *content: Any) -> None:
        if kind == "ready":
            (self.instance_id,) = content
            self._events.ready(self)
        elif kind == "shut":
            self.has_stopped_accepting = True
            self._events.closed(self)
        elif kind == "buried":
            self.recording.difference_update(content)

    def on_end(self) -> None:
        self._events.ended(self)

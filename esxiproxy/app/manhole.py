"""The services of the manhole: of a process that serves consoles, and of the admin process."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred

from esxiproxy.app.control import ProcessControl
from esxiproxy.app.manhole_audit import ManholeAudit
from esxiproxy.core.config.loader import Config
from esxiproxy.core.config.model import ADMIN_MANHOLE, MANHOLE, Manhole
from esxiproxy.core.routing import Upstream
from esxiproxy.ops.manhole.admin_commands import AdminCommands
from esxiproxy.ops.manhole.commands import CommandsFor, commands_of
from esxiproxy.ops.manhole.directory import SessionDirectory
from esxiproxy.ops.manhole.service import ManholeService
from esxiproxy.ops.manhole.unix_socket import ShellSockets, UnixShellService
from esxiproxy.ops.manhole.views import LiveSessionsView
from esxiproxy.ops.manhole.worker_shells import WorkerShells, WorkerView


@dataclass(frozen=True, slots=True)
class ManholeSocket:
    """The unix socket of the terminal command: its endpoint, its group, and the audit log of its users."""

    endpoint: str
    group: str
    audit_log: Path | None


@dataclass(frozen=True, slots=True)
class SSHManhole:
    """The SSH listener of operators, and the audit log of their logins."""

    manhole: Manhole
    is_audited: bool
    audit_log: Path | None

    @property
    def endpoint(self) -> str:
        """The Twisted endpoint description."""
        return self.manhole.endpoint


class ManholeParts:
    """Makes the services of the manhole in a process that serves consoles.

    With ``private_socket`` the process is a worker whose shell is reached by way of the admin process, and
    nothing else is served.  ``config`` returns the configuration in force.
    """

    def __init__(
        self,
        reactor: Any,
        sessions: Callable[[], LiveSessionsView],
        directory: Callable[[], SessionDirectory],
        control: Callable[[], ProcessControl],
        config: Callable[[], Config | None],
        inherited: Mapping[str, socket.socket],
        private_socket: Path | None = None,
    ) -> None:
        self._reactor = reactor
        self._sessions = sessions
        self._directory = directory
        self._control = control
        self._config = config
        self._inherited = inherited
        self._private_socket = private_socket

    def wanted(self, config: Config) -> Iterator[tuple[str, Any, Callable[[], Any]]]:
        """Yield the key, the value and the maker of each service of a configuration."""
        manhole, admin = config.manhole, config.admin
        if manhole is None:
            return
        if self._private_socket is not None:
            path = self._private_socket
            yield "worker_shell", path, partial(self._worker_shell, path)
            return
        ssh = SSHManhole(manhole, admin is not None, None if admin is None else admin.audit_log)
        yield "manhole", ssh, partial(self._ssh, ssh)
        if admin is not None:
            value = ManholeSocket(admin.manhole_endpoint, admin.socket_group or "", admin.audit_log)
            yield "manhole_socket", value, partial(self._socket, value)

    def _commands(self) -> CommandsFor:
        return commands_of(self._sessions(), self._upstreams, self._reactor, self._directory())

    def _upstreams(self) -> Sequence[Upstream]:
        config = self._config()
        return () if config is None else tuple(config.upstreams.values())

    def _ssh(self, value: SSHManhole) -> ManholeService:
        manhole = value.manhole
        return ManholeService(
            manhole.endpoint,
            manhole.keys,
            manhole.host_key,
            self._commands(),
            self._reactor,
            self._inherited.get(MANHOLE),
            ManholeAudit(value.audit_log, self._control(), self._reactor) if value.is_audited else None,
        )

    def _worker_shell(self, path: Path) -> UnixShellService:
        endpoint = unix_endpoint(path)
        sockets = ShellSockets(self._commands(), self._reactor)
        return UnixShellService(endpoint, sockets, self._reactor, is_optional=True)

    def _socket(self, value: ManholeSocket) -> UnixShellService:
        audit = ManholeAudit(value.audit_log, self._control(), self._reactor)
        sockets = ShellSockets(self._commands(), self._reactor, audit=audit)
        return UnixShellService(value.endpoint, sockets, self._reactor, group=value.group)


def unix_endpoint(path: Path) -> str:
    """Return the Twisted endpoint description of a unix socket for the owner only, without a lock file."""
    escaped = re.sub(r"([\\:=])", r"\\\1", str(path))
    return f"unix:{escaped}:mode=600:lockfile=0"


class AdminManhole(MultiService):
    """The manhole of the admin process, on the sockets of the master.

    The sockets are served from ``open`` on.  ``workers`` returns the workers of all generations, and
    ``folder`` has their private sockets.  Raises StartupError when a file of keys cannot be used.
    """

    def __init__(
        self,
        config: Config,
        control: ProcessControl,
        workers: Callable[[], Sequence[WorkerView]],
        folder: Path,
        inherited: Mapping[str, socket.socket],
        reactor: Any,
    ) -> None:
        super().__init__()
        self._upstreams = tuple(config.upstreams.values())
        self._reactor = reactor
        self._directory = SessionDirectory(control.state, control.identity, workers)
        self._shells = WorkerShells(folder, workers, reactor)
        assert config.manhole is not None
        audit = None if config.admin is None else ManholeAudit(config.admin.audit_log, control, reactor)
        self._ssh = ManholeService(
            config.manhole.endpoint,
            config.manhole.keys,
            config.manhole.host_key,
            self._commands,
            reactor,
            inherited.get(MANHOLE),
            audit,
        )
        self._ssh.prepare()
        self._services: list[Any] = [self._ssh]
        if config.admin is not None:
            sockets = ShellSockets(self._commands, reactor, self._shells, audit)
            endpoint = config.admin.manhole_endpoint
            self._services.append(UnixShellService(endpoint, sockets, reactor, inherited.get(ADMIN_MANHOLE)))

    def open(self) -> None:
        """Serve the sockets.  Raises StartupError."""
        for service in self._services:
            service.setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        return DeferredList([maybeDeferred(service.stopService) for service in self], consumeErrors=True)

    def _commands(
        self, operator: str, show: Callable[[str], None], idle: Callable[[], None]
    ) -> AdminCommands:
        return AdminCommands(
            operator, self._directory, self._shells, lambda: self._upstreams, self._reactor, show, idle
        )

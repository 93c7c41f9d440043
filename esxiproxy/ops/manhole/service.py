"""The manhole's service: an SSH listener that gives authorized operators a shell in the process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from esxiproxy.binding import Binding
from esxiproxy.core.routing import Upstream
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.manhole.commands import Commands, LiveSessionsView


class ManholeError(StartupError):
    """The manhole cannot be started."""


class ManholeService(Service):
    """The service that listens for SSH connections of operators.

    ``endpoint`` is a Twisted endpoint description.  ``keys`` is an ``authorized_keys`` file; there are no
    passwords.  ``host_key`` is created at the first start if it is missing.  ``upstreams`` returns the
    configured upstreams; by default, operators see only those in use.  ``inherited`` is a socket that listens
    already.

    An operator can run any Python code with the permissions of the process.  Therefore the manhole is off by
    default, needs keys and should listen on loopback only.
    """

    _log = Logger()

    def __init__(
        self,
        endpoint: str,
        keys: Path,
        host_key: Path,
        sessions: LiveSessionsView,
        reactor: Any,
        upstreams: Callable[[], Iterable[Upstream]] = tuple,
        inherited: socket.socket | None = None,
    ) -> None:
        self.setName("manhole")
        self._binding = Binding(endpoint, reactor, inherited)
        self._keys = keys
        self._host_key = host_key
        self._sessions = sessions
        self._upstreams = upstreams
        self._reactor = reactor
        self._listener: Any = None

    @property
    def port(self) -> IListeningPort | None:
        """The bound port, or None before it is bound."""
        return self._binding.port

    def privilegedStartService(self) -> None:
        """Bind the port, together with the other listeners.  Raises ManholeError."""
        super().privilegedStartService()
        # Imported here, since Conch is an optional dependency and its login imports the reactor.
        try:
            from esxiproxy.ops.manhole.ssh import SSHListener
            from esxiproxy.ops.manhole.ssh_keys import AuthorizedKeys, KeyFileError, fingerprint, host_key
        except ImportError as error:
            raise ManholeError(
                f"a manhole needs Twisted's SSH ({error.name} is missing): pip install 'esxiproxy[manhole]'"
            ) from error
        try:
            authorized = AuthorizedKeys(self._keys)
            authorized.read()
            key = host_key(self._host_key)
        except KeyFileError as error:
            raise ManholeError(f"manhole: {error}") from error
        self._listener = SSHListener(authorized, key, self._commands, self._reactor)
        try:
            self._binding.bind(self._listener)
        except Exception as error:
            raise ManholeError(f"manhole: {error}") from error
        self._log.info(
            "manhole listening on {address}, host key {fingerprint}",
            address=self.address(),
            fingerprint=fingerprint(key),
        )

    def startService(self) -> None:
        if self.port is None:  # embedded without a call of privilegedStartService
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Close the port and abort all SSH connections."""
        super().stopService()
        if self._listener is not None:
            self._listener.abort_all()
        return self._binding.release()

    def address(self) -> str:
        """Return the listening address as text."""
        return self._binding.address

    def _commands(self, operator: str, show: Callable[[str], None], idle: Callable[[], None]) -> Commands:
        return Commands(operator, self._sessions, self._upstreams, self._reactor, show, idle)

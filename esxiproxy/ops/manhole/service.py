"""A way into the running process: an interactive session over SSH, for whoever has one of the keys."""

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
    """The manhole cannot be opened, and why."""


class ManholeService(Service):
    """Listens for SSH while it runs.

    ``endpoint`` is a Twisted endpoint description.  ``keys`` is an ``authorized_keys`` file; there are no
    passwords.  ``host_key`` is made at the first start.  ``upstreams`` gives those of the configuration;
    without it the operator sees those that are in use.  An ``inherited`` socket listens already.

    Whoever is in runs Python in this process, with all that the process may do: hence loopback, keys, and off
    by default.
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
        """The bound port, once it is."""
        return self._binding.port

    def privilegedStartService(self) -> None:
        """Bind, with the other listeners; raises ManholeError."""
        super().privilegedStartService()
        # Here and not above: who has no manhole needs no Conch, and Conch's login imports the reactor.
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
        if self.port is None:  # embedded: nobody called privilegedStartService
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Close the port and everybody's session."""
        super().stopService()
        if self._listener is not None:
            self._listener.abort_all()
        return self._binding.release()

    def address(self) -> str:
        """Where it listens, as a person would write it."""
        return self._binding.address

    def _commands(self, operator: str, show: Callable[[str], None], idle: Callable[[], None]) -> Commands:
        return Commands(operator, self._sessions, self._upstreams, self._reactor, show, idle)

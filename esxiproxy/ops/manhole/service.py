"""The manhole's service: an SSH listener that gives authorized operators a shell in the process."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from esxiproxy.binding import Binding
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.manhole.commands import CommandsFor

if TYPE_CHECKING:
    from esxiproxy.ops.manhole.ssh import LoginAudit


class ManholeError(StartupError):
    """The manhole cannot be started."""


def conch_is_missing(error: ImportError) -> ManholeError:
    """Return the error of a process without Twisted Conch, which is an optional dependency."""
    return ManholeError(
        f"a manhole needs Twisted's SSH ({error.name} is missing): pip install 'esxiproxy[manhole]'"
    )


class ManholeService(Service):
    """The service that listens for SSH connections of operators.

    ``endpoint`` is a Twisted endpoint description.  ``keys`` is an ``authorized_keys`` file; there are no
    passwords.  ``host_key`` is created at the first start if it is missing.  ``commands_for`` makes the
    commands of a shell.  ``inherited`` is a socket that listens already.  ``audit`` writes down who
    logs in.

    An operator can run any Python code with the permissions of the process.  Therefore the manhole is off by
    default, needs keys and should listen on loopback only.
    """

    _log = Logger()

    def __init__(
        self,
        endpoint: str,
        keys: Path,
        host_key: Path,
        commands_for: CommandsFor,
        reactor: IReactorTime,
        inherited: socket.socket | None = None,
        audit: LoginAudit | None = None,
    ) -> None:
        self.setName("manhole")
        self._audit = audit
        self._binding = Binding(endpoint, reactor, inherited)
        self._keys = keys
        self._host_key = host_key
        self._commands_for = commands_for
        self._reactor = reactor
        self._listener: Any = None
        self._fingerprint = ""

    @property
    def port(self) -> IListeningPort | None:
        """The bound port, or None before it is bound."""
        return self._binding.port

    @property
    def is_removed(self) -> bool:
        """Whether the service listens on a unix socket whose file was removed or replaced."""
        return self._binding.is_removed

    def privilegedStartService(self) -> None:
        """Bind the port, together with the other listeners.  Raises ManholeError."""
        super().privilegedStartService()
        self.prepare()
        try:
            self._binding.bind(self._listener)
        except Exception as error:
            raise ManholeError(f"manhole: {error}") from error
        self._log.info(
            "manhole listening on {address}, host key {fingerprint}",
            address=self.address(),
            fingerprint=self._fingerprint,
        )

    def prepare(self) -> None:
        """Read the key files, before the port is bound.  Raises ManholeError."""
        if self._listener is not None:
            return
        # Imported here, since Conch is an optional dependency and its login imports the reactor.
        try:
            from esxiproxy.ops.manhole.ssh import SSHListener
            from esxiproxy.ops.manhole.ssh_keys import AuthorizedKeys, KeyFileError, fingerprint, host_key
        except ImportError as error:
            raise conch_is_missing(error) from error
        try:
            authorized = AuthorizedKeys(self._keys)
            authorized.read()
            key = host_key(self._host_key)
        except KeyFileError as error:
            raise ManholeError(f"manhole: {error}") from error
        self._listener = SSHListener(authorized, key, self._commands_for, self._reactor, self._audit)
        self._fingerprint = fingerprint(key)

    def startService(self) -> None:
        if self.port is None:  # embedded without a call of privilegedStartService
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Close the port and end all SSH connections."""
        super().stopService()
        if self._listener is not None:
            self._listener.end_all()
        return self._binding.release()

    def address(self) -> str:
        """Return the listening address as text."""
        return self._binding.address

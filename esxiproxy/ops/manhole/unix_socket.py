"""The unix sockets of the manhole: that of the terminal command, and the private one of each worker."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.binding import Binding, set_socket_group
from esxiproxy.core.coroutines import awaited
from esxiproxy.core.startup import BindError
from esxiproxy.core.unix_peer import UnixPeer, unix_peer
from esxiproxy.ops.manhole.command_error import CommandError
from esxiproxy.ops.manhole.commands import CommandsFor
from esxiproxy.ops.manhole.messages import (
    CLOSE_TIMEOUT,
    FAILED,
    PROCESS_ENDS,
    UNREACHABLE,
    Message,
    MessageError,
    MessageKind,
    MessageReader,
    ShellRequest,
    ShellStatus,
    decode_size,
    encode,
)
from esxiproxy.ops.manhole.service import conch_is_missing
from esxiproxy.ops.manhole.worker_shells import WorkerShells

REQUEST_TIMEOUT = 10.0
"""Seconds from the connection to the request for a shell."""


class ShellAudit(Protocol):
    """Records shells that are opened."""

    def begun(self, operator: str, request: ShellRequest) -> Awaitable[str]:
        """Write that an operator opens a shell, and return an id.  An exception refuses the shell."""

    def ended(self, identity: str, operator: str, request: ShellRequest) -> Awaitable[None]:
        """Write that a shell has ended.  Never fails."""


class OpenShell(Protocol):
    """A shell that a connection has opened."""

    def input_received(self, octets: bytes) -> None:
        """Handle input."""

    def resize(self, rows: int, columns: int) -> None:
        """Handle a new size of the terminal."""

    def end_of_input(self) -> None:
        """Handle that no more input follows."""

    def closed(self) -> None:
        """Handle the end of the connection."""


class ShellSockets(Factory):
    """The factory of the connections on one unix socket.

    ``workers`` are the shells that a request may name.  A private socket has no ``audit``: its peers are the
    user of this process and root, and they name the operator.
    """

    noisy = False

    def __init__(
        self,
        commands_for: CommandsFor,
        clock: IReactorTime,
        workers: WorkerShells | None = None,
        audit: ShellAudit | None = None,
    ) -> None:
        self.commands_for = commands_for
        self.clock = clock
        self.workers = workers
        self.audit = audit
        self.connections: set[ShellConnection] = set()

    def buildProtocol(self, addr: Any) -> ShellConnection:
        return ShellConnection(self)

    def admits(self, peer: UnixPeer) -> bool:
        """Return whether a peer may open a shell."""
        return self.audit is not None or peer.uid in (0, os.geteuid())

    def close_all(self) -> Deferred[Any]:
        """End all shells; the Deferred fires when their connections are closed."""
        status = ShellStatus(UNREACHABLE, PROCESS_ENDS)
        closing = [connection.close(status) for connection in list(self.connections)]
        return DeferredList(closing, consumeErrors=True)


class ShellConnection(TwistedProtocol):
    """One connection on a unix socket of the manhole, with one shell."""

    _log = Logger()

    def __init__(self, sockets: ShellSockets) -> None:
        self._sockets = sockets
        self._reader = MessageReader()
        self._messages: deque[Message] = deque()
        self._request: ShellRequest | None = None
        self._shell: OpenShell | None = None
        self._operator = ""
        self._audit_id = ""
        self._is_closing = False
        self._timer: IDelayedCall | None = None
        self._lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._sockets.connections.add(self)
        try:
            peer = unix_peer(self._transport.getHandle())
        except OSError as error:
            self._log.error("manhole: the user of a connection is unknown: {error}; closed", error=error)
            self._transport.abortConnection()
            return
        if not self._sockets.admits(peer):
            self._log.warn("manhole: {peer} may not open a shell of this process; closed", peer=peer)
            self._transport.abortConnection()
            return
        self._operator = str(peer)
        self._timer = self._sockets.clock.callLater(REQUEST_TIMEOUT, self._on_request_timeout)

    def dataReceived(self, octets: bytes) -> None:
        try:
            self._messages.extend(self._reader.feed(octets))
            self._handle_messages()
        except MessageError as error:
            self._log.warn(
                "manhole: connection of {operator} closed: {error}", operator=self._operator, error=error
            )
            self.close(ShellStatus(FAILED, str(error)))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._is_closing = True
        self._stop_timer()
        self._sockets.connections.discard(self)
        if self._shell is not None:
            self._shell.closed()
            self._log.info("manhole: {operator} has left the shell", operator=self._operator)
            self._audit_end()
        self._lost.callback(None)

    def close(self, status: ShellStatus) -> Deferred[None]:
        """Send the end of the shell, and close the connection."""
        if not self._is_closing:
            self._is_closing = True
            self._stop_timer()
            self._timer = self._sockets.clock.callLater(CLOSE_TIMEOUT, self._transport.abortConnection)
            self._transport.write(status.encode())
            self._transport.resumeProducing()  # a connection that is not read is not closed
            self._transport.loseConnection()
        closed: Deferred[None] = Deferred()
        self._lost.addCallback(closed.callback)
        return closed

    @property
    def _transport(self) -> Any:
        return self.transport

    def _handle_messages(self) -> None:
        while self._messages and not self._is_closing:
            if self._shell is None and self._request is not None:
                return  # until the shell has been opened
            kind, content = self._messages.popleft()
            if kind is MessageKind.PING:
                self._transport.write(encode(MessageKind.PONG))
            elif self._shell is None:
                if kind is not MessageKind.REQUEST:
                    raise MessageError("the first message is no request for a shell")
                self._open(ShellRequest.decode(content))
            elif kind is MessageKind.INPUT:
                self._shell.input_received(content)
            elif kind is MessageKind.SIZE:
                self._shell.resize(*decode_size(content))
            elif kind is MessageKind.END_OF_INPUT:
                self._shell.end_of_input()

    def _open(self, request: ShellRequest) -> None:
        self._request = request
        self._stop_timer()
        audit = self._sockets.audit
        if audit is None:
            self._operator = request.operator or self._operator
            self._opened()
            return
        self._transport.pauseProducing()
        begun = Deferred.fromCoroutine(awaited(audit.begun(self._operator, request)))
        begun.addCallbacks(self._audited, self._refused)

    def _audited(self, identity: str) -> None:
        self._audit_id = identity
        if self._is_closing:
            self._audit_end()
            return
        self._transport.resumeProducing()
        self._opened()
        try:
            self._handle_messages()
        except MessageError as error:
            self.close(ShellStatus(FAILED, str(error)))

    def _refused(self, failure: Failure) -> None:
        self._log.error(
            "manhole: shell of {operator} refused, since it cannot be written to the audit log: {error}",
            operator=self._operator,
            error=failure.value,
        )
        if not self._is_closing:
            text = f"refused: it cannot be written to the audit log: {failure.value}"
            self.close(ShellStatus(FAILED, text))

    def _opened(self) -> None:
        """Open the shell, after it has been written to the audit log."""
        assert self._request is not None
        request, operator = self._request, self._operator
        try:
            self._shell = self._own_shell(request) if request.worker is None else self._worker_shell(request)
        except CommandError as error:
            self._audit_end()
            self.close(ShellStatus(FAILED, str(error)))
            return
        wanted = "" if request.worker is None else f" of worker {request.worker}"
        self._log.info("manhole: {operator} has opened a shell{wanted}", operator=operator, wanted=wanted)

    def _own_shell(self, request: ShellRequest) -> OpenShell:
        """Return a shell of this process."""
        # Imported here, since Conch is an optional dependency.
        from esxiproxy.ops.manhole.line_shell import LineShell
        from esxiproxy.ops.manhole.terminal import ShellTerminal

        self._transport.write(encode(MessageKind.READY))

        operator = self._operator

        def make(show: Callable[[str], None], idle: Callable[[], None]) -> Any:
            return self._sockets.commands_for(operator, show, idle)

        if request.terminal:
            size = (request.rows, request.columns)
            return ShellTerminal(make, self._write_output, self._on_ended, operator, size)
        return LineShell(make, self._write_output, self._on_ended)

    def _worker_shell(self, request: ShellRequest) -> OpenShell:
        """Return the shell of the worker that a request names.  Raises CommandError."""
        if self._sockets.workers is None:
            raise CommandError("this process has no workers: leave out --worker")
        worker = self._sockets.workers.find(request.worker, request.generation)
        forwarded = ShellRequest(request.terminal, request.rows, request.columns, operator=self._operator)
        link = worker.open(forwarded, self._write_output)
        self._transport.write(encode(MessageKind.READY))
        link.ended.addCallback(self.close)
        return link

    def _audit_end(self) -> None:
        audit, identity = self._sockets.audit, self._audit_id
        if audit is not None and identity and self._request is not None:
            self._audit_id = ""
            Deferred.fromCoroutine(awaited(audit.ended(identity, self._operator, self._request)))

    def _write_output(self, octets: bytes) -> None:
        if not self._is_closing:
            self._transport.write(encode(MessageKind.OUTPUT, octets))

    def _on_ended(self, status: int) -> None:
        self.close(ShellStatus(status))

    def _on_request_timeout(self) -> None:
        self.close(ShellStatus(FAILED, f"no request for a shell within {REQUEST_TIMEOUT:g} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class UnixShellService(Service):
    """The service that listens on a unix socket of the manhole.

    ``endpoint`` is a Twisted endpoint description, ``inherited`` a socket that listens already.  ``group`` is
    the group of a socket that this process binds.  With ``is_optional``, a socket that cannot be bound is
    logged and missed.
    """

    _log = Logger()

    def __init__(
        self,
        endpoint: str,
        sockets: ShellSockets,
        reactor: IReactorTime,
        inherited: Any = None,
        group: str = "",
        is_optional: bool = False,
    ) -> None:
        self._binding = Binding(endpoint, reactor, inherited)
        self._sockets = sockets
        self._inherited = inherited
        self._group = group
        self._is_optional = is_optional

    @property
    def is_removed(self) -> bool:
        """Whether the file of the socket was removed or replaced."""
        return self._binding.is_removed

    def privilegedStartService(self) -> None:
        """Bind the socket, together with the listeners.  Raises BindError."""
        super().privilegedStartService()
        try:
            import twisted.conch.manhole  # noqa: F401
        except ImportError as error:
            raise conch_is_missing(error) from error
        try:
            self._binding.bind(self._sockets)
        except Exception as error:
            if not self._is_optional:
                raise BindError(f"[admin] manhole: {error}") from error
            self._log.error("manhole: this process has no shell: {error}", error=error)
            return
        if self._group and self._inherited is None:
            set_socket_group(self._binding.address.removeprefix("unix:"), self._group)

    def startService(self) -> None:
        if self._binding.port is None:
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[Any]:
        """Close the socket, and end all shells."""
        super().stopService()
        released = self._binding.release(shared=self._inherited is not None)
        return DeferredList([released, self._sockets.close_all()], consumeErrors=True)

"""The shells of the workers, as the admin process reaches them over their private unix sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from esxiproxy.ops.manhole.command_error import CommandError
from esxiproxy.ops.manhole.messages import (
    ANSWER_TIMEOUT,
    MAX_UNANSWERED,
    PING_INTERVAL,
    UNREACHABLE,
    MessageError,
    MessageKind,
    MessageReader,
    ShellRequest,
    ShellStatus,
    encode,
    encode_size,
)

OPEN_TIMEOUT = 5.0
"""Seconds within which a worker has to open its shell."""
HEARTBEAT_TIMEOUT = 10.0
"""Seconds after its last heartbeat when a worker is shown as one without a heartbeat."""


class WorkerView(Protocol):
    """The part of the facts about a worker that is shown."""

    @property
    def generation(self) -> int:
        """The number of reloads before the start of the worker."""

    @property
    def number(self) -> int:
        """The number of the worker."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def instance_id(self) -> str:
        """The ID of the worker in the shared state, empty until it is ready."""

    @property
    def heartbeat_age(self) -> float | None:
        """The seconds since the last heartbeat, None before the first one."""

    @property
    def connections(self) -> int:
        """The number of connections of clients."""

    @property
    def accepting(self) -> bool:
        """Whether the worker accepts connections."""


def socket_path(folder: Path, number: int | str, generation: int) -> Path:
    """Return the path of the private socket of a worker."""
    return folder / f"worker-{number}-{generation}.sock"


def state_of(worker: WorkerView) -> str:
    """Return the state of a worker in words."""
    if not worker.instance_id:
        return "starting"
    if worker.heartbeat_age is not None and worker.heartbeat_age > HEARTBEAT_TIMEOUT:
        return f"no heartbeat for {worker.heartbeat_age:.0f} s"
    return "accepting" if worker.accepting else "retiring"


class WorkerShells:
    """The shells of the workers of this proxy.

    ``workers`` returns the workers of all generations, and ``folder`` has their sockets.
    """

    def __init__(
        self, folder: Path, workers: Callable[[], Sequence[WorkerView]], reactor: IReactorTime
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._reactor = reactor

    def listed(self) -> list[WorkerView]:
        """Return the workers by number and generation."""
        return sorted(self._workers(), key=lambda worker: (worker.number, worker.generation))

    def find(self, number: object, generation: int | None = None) -> WorkerShell:
        """Return the shell of a worker, by default that of the newest generation.  Raises CommandError."""
        found = [worker for worker in self.listed() if str(worker.number) == str(number)]
        if generation is not None:
            found = [worker for worker in found if worker.generation == generation]
        if not found:
            of = "" if generation is None else f" of generation {generation}"
            known = ", ".join(f"{each.number} (generation {each.generation})" for each in self.listed())
            raise CommandError(f"no worker {str(number)!r}{of}: there are {known or 'no workers'}")
        worker = next((each for each in reversed(found) if each.instance_id), found[-1])
        path = socket_path(self._folder, worker.number, worker.generation)
        return WorkerShell(worker.number, worker.generation, path, self._reactor)


class WorkerShell:
    """The shell of one worker, to which a terminal can be connected."""

    def __init__(self, number: int, generation: int, path: Path, reactor: IReactorTime) -> None:
        self.name = f"worker {number} of generation {generation}"
        self.options = f"--worker {number} --generation {generation}"
        """The options of ``esxiproxy manhole`` for this worker."""
        self._path = path
        self._reactor = reactor

    def __repr__(self) -> str:
        return f"<the shell of {self.name}>"

    def open(self, request: ShellRequest, output: Callable[[bytes], None]) -> WorkerLink:
        """Open the shell, whose output is passed to ``output``."""
        link = WorkerLink(self.name, request, output, self._reactor)
        link.connect(self._path)
        return link


class WorkerLink(TwistedProtocol):
    """The connection to the shell of a worker.

    ``ended`` fires with the status of the shell, or with that of a worker that cannot be reached, does not
    answer or has exited.  Input is kept until the worker has opened the shell.
    """

    def __init__(
        self, name: str, request: ShellRequest, output: Callable[[bytes], None], reactor: IReactorTime
    ) -> None:
        self.ended: Deferred[ShellStatus] = Deferred()
        self._name = name
        self._request = request
        self._output = output
        self._reactor = reactor
        self._reader = MessageReader()
        self._kept: list[bytes] = []
        self._is_ready = self._has_ended = False
        self._unanswered = 0
        self._connecting: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None

    def connect(self, path: Path) -> None:
        """Connect to the socket of the worker."""
        self._timer = self._reactor.callLater(OPEN_TIMEOUT, self._on_open_timeout)
        endpoint = UNIXClientEndpoint(self._reactor, str(path), timeout=OPEN_TIMEOUT)
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        self._connecting = endpoint.connect(factory)
        self._connecting.addErrback(self._on_connect_failed)

    def input_received(self, octets: bytes) -> None:
        """Send bytes that were typed."""
        self._send(encode(MessageKind.INPUT, octets))

    def resize(self, rows: int, columns: int) -> None:
        """Send the new size of the terminal."""
        self._send(encode_size(rows, columns))

    def end_of_input(self) -> None:
        """Send that no more input follows."""
        self._send(encode(MessageKind.END_OF_INPUT))

    def close(self) -> None:
        """Close the connection, and with it the shell."""
        self._end(ShellStatus(UNREACHABLE, f"the shell of {self._name} was left"))

    def closed(self) -> None:
        """Close the connection, after the terminal was closed."""
        self.close()

    # Called by Twisted

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if self._has_ended:
            transport.abortConnection()
        else:
            transport.write(self._request.encode())

    def dataReceived(self, octets: bytes) -> None:
        self._unanswered = 0
        try:
            for kind, content in self._reader.feed(octets):
                if self._has_ended:
                    break
                self._message_received(kind, content)
        except MessageError as error:
            self._end(ShellStatus(UNREACHABLE, f"{self._name}: {error}"))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._end(ShellStatus(UNREACHABLE, f"{self._name} has exited, or has closed its shell"))

    def _message_received(self, kind: MessageKind, content: bytes) -> None:
        if kind is MessageKind.READY:
            self._is_ready = True
            kept, self._kept = self._kept, []
            for message in kept:
                self._send(message)
            self._stop_timer()
            self._ping()
        elif kind is MessageKind.OUTPUT:
            self._output(content)
        elif kind is MessageKind.STATUS:
            self._end(ShellStatus.decode(content))

    def _send(self, message: bytes) -> None:
        if self._has_ended:
            return
        if not self._is_ready:
            self._kept.append(message)
        else:
            transport: Any = self.transport
            transport.write(message)

    def _ping(self) -> None:
        if self._unanswered >= MAX_UNANSWERED:
            self._end(
                ShellStatus(
                    UNREACHABLE,
                    f"{self._name} has not answered for {ANSWER_TIMEOUT:g} s: a statement or a plugin blocks "
                    "its event loop",
                )
            )
            return
        self._unanswered += 1
        self._send(encode(MessageKind.PING))
        self._timer = self._reactor.callLater(PING_INTERVAL, self._ping)

    def _on_open_timeout(self) -> None:
        self._end(
            ShellStatus(
                UNREACHABLE,
                f"{self._name} has not opened its shell within {OPEN_TIMEOUT:g} s: it starts, or its event "
                "loop is blocked",
            )
        )

    def _on_connect_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            text = f"the shell of {self._name} cannot be reached: {failure.getErrorMessage()}"
            self._end(ShellStatus(UNREACHABLE, text))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _end(self, status: ShellStatus) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._stop_timer()
        if self.transport is not None:
            transport: Any = self.transport
            transport.abortConnection()
        elif self._connecting is not None:
            self._connecting.cancel()
        self.ended.callback(status)

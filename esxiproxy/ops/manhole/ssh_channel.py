"""The session channels of an SSH connection, each with a shell or a single command."""

from __future__ import annotations

from typing import Any

from twisted.conch.interfaces import ISession
from twisted.conch.ssh.session import SSHSessionProcessProtocol
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.ops.manhole.commands import CommandsFor
from esxiproxy.ops.manhole.line_shell import LineShell
from esxiproxy.ops.manhole.terminal import OutputTransport, ShellTerminal


@implementer(ISession)
class Channel:
    """One session channel of an operator."""

    def __init__(self, operator: str, commands_for: CommandsFor, clock: IReactorTime) -> None:
        self._operator = operator
        self._make_commands = lambda show, idle: commands_for(operator, show, idle)
        self._clock = clock
        self._running: ShellTerminal | LineShell | None = None
        self._process: SSHSessionProcessProtocol | None = None
        self._size = (24, 80)

    def getPty(self, term: bytes, windowSize: tuple[int, ...], modes: Any) -> None:
        self._size = (windowSize[0], windowSize[1])

    def openShell(self, process: SSHSessionProcessProtocol) -> None:
        self._process = process
        self._running = shell = ShellTerminal(
            self._make_commands, process.write, self._ended, self._operator, self._size
        )
        process.makeConnection(OutputTransport(shell.input_received))

    def execCommand(self, process: SSHSessionProcessProtocol, command: bytes) -> None:
        self._process = process
        process.makeConnection(OutputTransport(lambda _octets: None))
        self._running = shell = LineShell(self._make_commands, process.write, self._ended)
        self._clock.callLater(0, self._run, shell, command)  # after Conch has answered the client's request

    def windowChanged(self, size: tuple[int, ...]) -> None:
        self._size = (size[0], size[1])
        if self._running is not None:
            self._running.resize(*self._size)

    def eofReceived(self) -> None:
        if isinstance(self._running, ShellTerminal):
            self._ended(0)

    def closed(self) -> None:
        if self._running is not None:
            self._running.closed()

    def _run(self, shell: LineShell, command: bytes) -> None:
        shell.input_received(command)
        shell.end_of_input()

    def _ended(self, status: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.processEnded(Failure(ProcessTerminated(status) if status else ProcessDone(0)))

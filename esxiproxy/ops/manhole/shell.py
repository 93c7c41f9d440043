"""An operator's shell: a Python interpreter in the proxy's process, with the manhole's commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.interfaces import ISession
from twisted.conch.manhole import Manhole, ManholeInterpreter
from twisted.conch.ssh.session import SSHSessionProcessProtocol
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.redaction import redact_text
from esxiproxy.ops.manhole.commands import CommandError, Commands

MakeCommands = Callable[[Callable[[str], None], Callable[[], None]], Commands]
"""Makes a shell's commands from the function that prints a line and one to call when traces have ended."""


class Interpreter(ManholeInterpreter):
    """The interpreter of the operator's input; tickets in its output are redacted."""

    failed = False

    def runcode(self, code: Any) -> None:
        try:
            super().runcode(code)
        except SystemExit:
            self.handler.leave()

    def showtraceback(self) -> None:
        self.failed = True
        super().showtraceback()

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        self.failed = True
        super().showsyntaxerror(*args, **kwargs)

    def excepthook(self, kind: Any, value: BaseException, traceback: Any) -> None:
        if isinstance(value, CommandError):
            self.write(f"{value}\n")
        else:
            super().excepthook(kind, value, traceback)


class Shell(Manhole):
    """The shell with a terminal, for ``ssh`` without a command."""

    namespace: Any
    ps = (b"esxiproxy> ", b"......... > ")

    def __init__(self, make_commands: MakeCommands, ended: Callable[[int], None]) -> None:
        super().__init__()
        self.commands = make_commands(self.show, lambda: None)
        self.namespace = self.commands.names() | {"exit": self.leave, "quit": self.leave}
        self._ended = ended
        self._is_closed = self._busy = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.interpreter = Interpreter(self, self.namespace)

    def initializeScreen(self) -> None:
        """Write the greeting, without clearing the operator's screen as Twisted's own method does."""
        self.setInsertMode()
        self.terminal.write("esxiproxy: help() lists the commands\n")
        self.terminal.write(self.ps[self.pn])

    def terminalSize(self, width: int, height: int) -> None:
        self.width, self.height = width, height

    def lineReceived(self, line: bytes) -> None:
        self._busy = True
        try:
            super().lineReceived(line)
        finally:
            self._busy = False

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        """Write output above the input line, which Twisted's own method does not redraw correctly."""
        if self._is_closed:
            return
        shown = redact_text(data)
        if not isAsync or self._busy:
            super().addOutput(shown)
            return
        self.terminal.eraseLine()
        self.terminal.cursorBackward(self.lineBufferIndex + len(self.ps[self.pn]))
        self.terminal.write(shown)
        if self._needsNewline():
            self.terminal.nextLine()
        self.drawInputLine()
        if behind := len(self.lineBuffer) - self.lineBufferIndex:
            self.terminal.cursorBackward(behind)

    def show(self, line: str) -> None:
        """Write a line at any time, above the input line."""
        self.addOutput(line + "\n", True)

    def leave(self) -> None:
        """Close the shell, for ``exit()`` and ``quit()``."""
        self._ended(0)

    def handle_QUIT(self) -> None:
        self.terminal.nextLine()
        self.leave()

    def on_closed(self) -> None:
        """Stop the traces and the output, after the SSH channel was closed."""
        self._is_closed = True
        self.commands.stop_traces()


class OneCommand:
    """The interpreter of a single line, the argument of ``ssh``; it ends with the last trace of the line."""

    def __init__(
        self,
        line: str,
        make_commands: MakeCommands,
        write: Callable[[bytes], None],
        ended: Callable[[int], None],
    ) -> None:
        self._write = write
        self._ended = ended
        self._is_closed = False
        self._status: int | None = None
        self.commands = make_commands(self.show, self._idle)
        self._interpreter = Interpreter(
            self, self.commands.names() | {"exit": self.leave, "quit": self.leave}
        )
        self._line = line

    def run(self) -> None:
        """Run the line, and close the channel unless traces are running."""
        if self._is_closed:
            return
        unfinished = self._interpreter.push(self._line.encode())
        if unfinished:
            self.show("the command is incomplete Python")
        self._status = 1 if unfinished or self._interpreter.failed else 0
        if not self.commands.running_traces:
            self.leave()

    def show(self, line: str) -> None:
        self.addOutput(line + "\n")

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        """Write output; the interpreter calls this method of Twisted's Manhole."""
        if not self._is_closed:
            ending = "" if data.endswith("\n") else "\n"
            self._write((redact_text(data) + ending).encode("utf-8", "replace"))

    def leave(self) -> None:
        self._ended(self._status or 0)

    def on_closed(self) -> None:
        self._is_closed = True
        self.commands.stop_traces()

    def _idle(self) -> None:
        if self._status is not None:
            self.leave()


class OutputTransport:
    """A transport for Conch that only passes bytes on."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write

    def loseConnection(self) -> None:
        """Ignore the call, since the channel is closed with the process in :meth:`Channel._ended`."""


@implementer(ISession)
class Channel:
    """One SSH session channel, with a shell or a single command."""

    def __init__(self, make_commands: MakeCommands, clock: IReactorTime) -> None:
        self._make_commands = make_commands
        self._clock = clock
        self._running: Shell | OneCommand | None = None
        self._process: SSHSessionProcessProtocol | None = None
        self._size = (24, 80)

    def getPty(self, term: bytes, windowSize: tuple[int, ...], modes: Any) -> None:
        self._size = (windowSize[0], windowSize[1])

    def openShell(self, process: SSHSessionProcessProtocol) -> None:
        terminal = ServerProtocol(Shell, self._make_commands, self._ended)
        self._process = process
        process.makeConnection(OutputTransport(terminal.dataReceived))
        terminal.makeConnection(OutputTransport(process.write))
        self._running = terminal.terminalProtocol
        self.windowChanged(self._size)

    def execCommand(self, process: SSHSessionProcessProtocol, command: bytes) -> None:
        self._process = process
        process.makeConnection(OutputTransport(lambda _octets: None))
        line = command.decode("utf-8", "replace")
        self._running = running = OneCommand(line, self._make_commands, process.write, self._ended)
        self._clock.callLater(0, running.run)  # after Conch has answered the client's request

    def windowChanged(self, size: tuple[int, ...]) -> None:
        self._size = (size[0], size[1])
        if isinstance(self._running, Shell):
            self._running.terminalSize(size[1], size[0])

    def eofReceived(self) -> None:
        if isinstance(self._running, Shell):
            self._ended(0)

    def closed(self) -> None:
        if self._running is not None:
            self._running.on_closed()

    def _ended(self, status: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.processEnded(Failure(ProcessTerminated(status) if status else ProcessDone(0)))

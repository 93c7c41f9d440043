"""An operator's shell: a Python interpreter in the proxy's process, with the manhole's commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.conch.insults.insults import modes
from twisted.conch.manhole import Manhole, ManholeInterpreter
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from esxiproxy.core.errors import SessionError
from esxiproxy.core.redaction import redact_text
from esxiproxy.ops.manhole.command_error import CommandError
from esxiproxy.ops.manhole.commands import Commands
from esxiproxy.ops.manhole.results import PendingResult, PendingResults, is_cancelled
from esxiproxy.ops.manhole.worker_shells import WorkerShell

MakeCommands = Callable[[Callable[[str], None], Callable[[], None]], Commands]
"""Makes a shell's commands from the function that prints a line and one to call when traces have ended."""


class Interpreter(ManholeInterpreter):
    """The interpreter of the operator's input; tickets in its output are redacted.

    Results that arrive later are passed to the shell, and so are the shells of workers.
    """

    failed = False

    def runcode(self, code: Any) -> None:
        try:
            super().runcode(code)
        except SystemExit:
            self.handler.leave()

    def displayhook(self, obj: Any) -> None:
        if isinstance(obj, PendingResult):
            self.handler.wait(obj)
        elif isinstance(obj, WorkerShell):
            self.handler.visit(obj)
        elif obj is None or isinstance(obj, Deferred):
            super().displayhook(obj)
        else:
            self.locals["_"] = obj
            self.show_result(obj)

    def show_result(self, result: Any) -> None:
        """Write a result, unless it is empty."""
        if result is not None and (text := repr(result)):
            self.write(f"{text}\n")

    def show_failure(self, failure: Failure) -> None:
        """Write why a result has not arrived: a sentence, or the traceback of a bug."""
        self.failed = True
        if is_cancelled(failure):
            self.write("KeyboardInterrupt\n")
        elif failure.check(CommandError, SessionError):
            self.write(f"{failure.value}\n")
        else:
            self.write(failure.getTraceback())

    def show_error(self, error: CommandError) -> None:
        """Write the message of an error that no statement has raised."""
        self.failed = True
        self.write(f"{error}\n")

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


class ShellOwner(Protocol):
    """The terminal of a shell."""

    def left(self) -> None:
        """Handle the end of the shell."""

    def resumed(self) -> None:
        """Handle that the shell reads input again."""

    def visit(self, worker: WorkerShell) -> PendingResult:
        """Connect the terminal to a worker's shell; the result is the reason of the end."""


class Shell(Manhole):
    """The shell with a terminal, for ``ssh`` without a command and for ``esxiproxy manhole``."""

    namespace: Any
    ps = (b"esxiproxy> ", b"......... > ")

    def __init__(self, make_commands: MakeCommands, owner: ShellOwner) -> None:
        super().__init__()
        self.commands = make_commands(self.show, lambda: None)
        self.namespace = self.commands.names() | {"exit": self.leave, "quit": self.leave}
        self._owner = owner
        self._is_closed = self._busy = False
        self._results = PendingResults(self._show_result, self._show_failure, self._resume)

    @property
    def is_waiting(self) -> bool:
        """Whether a result is awaited, so that no input may be passed to the shell."""
        return bool(self._results)

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
        """Run a line, and write the next prompt unless a result is awaited."""
        self._busy = True
        try:
            self.pn = int(bool(self.interpreter.push(line)))
        finally:
            self._busy = False
        if not self.is_waiting:
            self._show_prompt()

    def wait(self, result: PendingResult) -> None:
        """Read no input until this result has arrived."""
        self._results.add(result)

    def visit(self, worker: WorkerShell) -> None:
        """Connect the terminal to a worker's shell until that ends."""
        self._results.add(self._owner.visit(worker))

    def cancel(self) -> None:
        """Cancel the commands whose results are awaited, for Ctrl-C."""
        self._results.cancel()

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        """Write output above the input line, which Twisted's own method does not redraw correctly."""
        if self._is_closed:
            return
        shown = redact_text(data)
        if not isAsync or self._busy or self.is_waiting:
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
        """Close the shell, for ``exit()`` and ``quit()``, and give the terminal its mode back."""
        self.terminal.resetModes([modes.IRM])
        self._owner.left()

    def handle_QUIT(self) -> None:
        self.terminal.nextLine()
        self.leave()

    def on_closed(self) -> None:
        """Stop the traces and the output, after the terminal was closed."""
        self._is_closed = True
        self._results.close()
        self.commands.stop_traces()

    def _show_result(self, result: Any) -> None:
        self.interpreter.show_result(result)

    def _show_failure(self, failure: Failure) -> None:
        self.interpreter.show_failure(failure)

    def _show_prompt(self) -> None:
        if not self._is_closed:
            if self._needsNewline():
                self.terminal.nextLine()
            self.terminal.write(self.ps[self.pn])

    def _resume(self) -> None:
        """Read input again, after the results of a line have arrived."""
        if not self._busy:
            self._show_prompt()
            self._owner.resumed()

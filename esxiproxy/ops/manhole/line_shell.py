"""A shell without a terminal: it reads lines, and writes their output and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from esxiproxy.core.redaction import redact_text
from esxiproxy.ops.manhole.command_error import CommandError
from esxiproxy.ops.manhole.messages import DONE, FAILED
from esxiproxy.ops.manhole.results import PendingResult, PendingResults
from esxiproxy.ops.manhole.shell import Interpreter, MakeCommands
from esxiproxy.ops.manhole.worker_shells import WorkerShell

MAX_LINE = 1 << 20
"""Maximum length of a line of input."""


class LineShell:
    """The shell of a script: the argument of ``ssh``, or the input of a pipe.

    It ends after its last line with the last result and the last trace.  The exit status is 1 when a line has
    failed.  ``write`` gets the output, and ``ended`` is called with the exit status.
    """

    def __init__(
        self,
        make_commands: MakeCommands,
        write: Callable[[bytes], None],
        ended: Callable[[int], None],
    ) -> None:
        self._write = write
        self._ended = ended
        self._is_closed = self._busy = self._has_all_input = self._has_ended = False
        self._input = bytearray()
        self._searched = 0
        self._at_line_start = True
        self._results = PendingResults(self._show_result, self._show_failure, self._run)
        self.commands = make_commands(self.show, self._idle)
        self._interpreter = Interpreter(
            self, self.commands.names() | {"exit": self.leave, "quit": self.leave}
        )

    def input_received(self, octets: bytes) -> None:
        """Run the lines that are complete with these bytes."""
        if not self._is_closed:
            self._input += octets
            self._run()

    def end_of_input(self) -> None:
        """Run the rest of the input, and end with the last result."""
        self._has_all_input = True
        self._run()

    def resize(self, rows: int, columns: int) -> None:
        """Ignore the size of a terminal."""

    def show(self, line: str) -> None:
        """Write a line."""
        self.addOutput(line + "\n")

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        """Write output; the interpreter calls this method of Twisted's Manhole."""
        if data and not self._is_closed:
            self._write(redact_text(data).encode("utf-8", "replace"))
            self._at_line_start = data.endswith("\n")

    def leave(self) -> None:
        """End the shell, for ``exit()`` and ``quit()``."""
        self._end()

    def wait(self, result: PendingResult) -> None:
        """Run no line until this result has arrived."""
        self._results.add(result)

    def visit(self, worker: WorkerShell) -> None:
        """Refuse to connect to a worker, since the rest of the input may be for this process."""
        self._interpreter.show_error(
            CommandError(
                f"the shell of {worker.name} needs a terminal: pass the lines to "
                f"`esxiproxy manhole {worker.options}`"
            )
        )

    def closed(self) -> None:
        """Stop the traces and the output, after the connection was closed."""
        self._is_closed = True
        self._results.close()
        self.commands.stop_traces()

    def _run(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while not self._results and not self._is_closed and (line := self._next_line()) is not None:
                self._push(line)
        finally:
            self._busy = False
        if self._has_all_input and not self._input and not self._results and not self._is_closed:
            self._finish()

    def _next_line(self) -> bytes | None:
        end = self._input.find(b"\n", self._searched)
        if end < 0 and len(self._input) > MAX_LINE:
            self._interpreter.show_error(CommandError(f"a line is longer than {MAX_LINE} bytes"))
            self._end()
            return None
        if end < 0 and not (self._has_all_input and self._input):
            self._searched = len(self._input)
            return None
        line = bytes(self._input if end < 0 else self._input[:end])
        del self._input[: len(line) + 1]
        self._searched = 0
        return line.removesuffix(b"\r")

    def _push(self, line: bytes) -> bool:
        """Run a line, and return whether the statement is incomplete."""
        try:
            more = bool(self._interpreter.push(line))
        except UnicodeDecodeError:
            self._interpreter.resetBuffer()
            self._interpreter.show_error(CommandError("a line is not UTF-8"))
            more = False
        self._end_line()
        return more

    def _finish(self) -> None:
        """End a compound statement, and end when nothing runs any more."""
        if self._interpreter.buffer:
            self._busy = True
            unfinished = self._push(b"")
            self._busy = False
            self._interpreter.resetBuffer()
            if unfinished:
                self._interpreter.show_error(CommandError("the command is incomplete Python"))
        if not self._results and not self.commands.running_traces:
            self._end()

    def _end_line(self) -> None:
        if not self._at_line_start:
            self.addOutput("\n")

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            status = FAILED if self._interpreter.failed else DONE
            self.closed()
            self._ended(status)

    def _show_result(self, result: Any) -> None:
        self._interpreter.show_result(result)

    def _show_failure(self, failure: Failure) -> None:
        self._interpreter.show_failure(failure)

    def _idle(self) -> None:
        """Continue after the last trace has ended."""
        self._run()

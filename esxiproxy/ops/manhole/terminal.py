"""A terminal, which is connected to the shell of this process, or to that of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.conch.insults.insults import ServerProtocol
from twisted.internet.defer import Deferred

from esxiproxy.ops.manhole.messages import DONE, ShellRequest, ShellStatus
from esxiproxy.ops.manhole.results import PendingResult
from esxiproxy.ops.manhole.shell import MakeCommands, Shell
from esxiproxy.ops.manhole.table import PlainText
from esxiproxy.ops.manhole.worker_shells import WorkerLink, WorkerShell

_CTRL_C = b"\x03"


class OutputTransport:
    """A transport for Conch that only passes bytes on."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write

    def loseConnection(self) -> None:
        """Ignore the call, since the connection is closed with the shell."""


class ShellTerminal:
    """The terminal of an operator.

    Input that arrives while a result or a worker is awaited is kept for the shell that reads next.  ``write``
    gets the output, and ``ended`` is called with the exit status.  ``operator`` is named to workers.
    """

    def __init__(
        self,
        make_commands: MakeCommands,
        write: Callable[[bytes], None],
        ended: Callable[[int], None],
        operator: str = "",
        size: tuple[int, int] = (24, 80),
    ) -> None:
        self._write = write
        self._ended = ended
        self._operator = operator
        self._size = size
        self._input = bytearray()
        self._is_reading = self._is_closed = False
        self._link: WorkerLink | None = None
        self._protocol = ServerProtocol(Shell, make_commands, self)
        self._protocol.makeConnection(OutputTransport(self._write_output))
        self.shell = self._shell_of(self._protocol)
        self.resize(*size)

    @staticmethod
    def _shell_of(protocol: Any) -> Shell:
        shell: Shell = protocol.terminalProtocol
        return shell

    def input_received(self, octets: bytes) -> None:
        """Pass bytes that were typed to the shell that the terminal is connected to."""
        if self._link is None and self.shell.is_waiting and _CTRL_C in octets:
            self._input.clear()
            self._input += octets.rpartition(_CTRL_C)[2]
            self.shell.cancel()
        else:
            self._input += octets
        self._read()

    def resize(self, rows: int, columns: int) -> None:
        """Pass on the new size of the terminal."""
        self._size = (rows, columns)
        self.shell.terminalSize(columns, rows)
        if self._link is not None:
            self._link.resize(rows, columns)

    def end_of_input(self) -> None:
        """End the shell."""
        if not self._is_closed:
            self.left()

    def closed(self) -> None:
        """Stop the shell, and leave that of a worker, after the terminal was closed."""
        if not self._is_closed:
            self._is_closed = True
            self.shell.on_closed()
            if self._link is not None:
                self._link.close()

    # The owner of the shell

    def left(self) -> None:
        self.closed()
        self._ended(DONE)

    def resumed(self) -> None:
        self._read()

    def visit(self, worker: WorkerShell) -> PendingResult:
        rows, columns = self._size
        request = ShellRequest(True, rows, columns, operator=self._operator)
        self._link = link = worker.open(request, self._write_output)
        ended: Deferred[PlainText] = Deferred(lambda _: link.close())
        link.ended.addCallback(self._on_visit_ended, worker, ended)
        return PendingResult(ended)

    def _on_visit_ended(self, status: ShellStatus, worker: WorkerShell, ended: Deferred[PlainText]) -> None:
        self._link = None
        if not ended.called:
            self.shell.setInsertMode()  # the shell of the worker has given the terminal its own mode back
            self._write_output(b"\r\n")
            ended.callback(PlainText(status.text or f"the shell of {worker.name} has ended"))

    def _read(self) -> None:
        """Pass on the input; byte by byte, since any byte may be the last one for this shell."""
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while self._input and not self._is_closed:
                if self._link is not None:
                    self._link.input_received(bytes(self._input))
                    self._input.clear()
                elif self.shell.is_waiting:
                    break
                else:
                    octet = bytes(self._input[:1])
                    del self._input[:1]
                    self._protocol.dataReceived(octet)
        finally:
            self._is_reading = False

    def _write_output(self, octets: bytes) -> None:
        if not self._is_closed:
            self._write(octets)

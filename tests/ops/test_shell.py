"""An operator's shell: Python, the commands, and the redaction of its output."""

import re

from esxiproxy.ops.manhole.commands import Commands
from esxiproxy.ops.manhole.line_shell import LineShell
from esxiproxy.ops.manhole.terminal import ShellTerminal
from tests.net.scene import frame, up
from tests.ops.test_commands import opened


class Terminal:
    """A shell on a transport in memory."""

    def __init__(self, desk):
        self.desk = desk
        self.octets = b""
        self.status = None
        self.terminal = ShellTerminal(self._commands, self._write, self._ended)
        self.shell = self.terminal.shell

    def _commands(self, show, idle):
        return Commands("somebody", self.desk.scene.sessions, tuple, self.desk.scene.clock, show, idle)

    def _write(self, octets):
        self.octets += octets

    def _ended(self, status):
        self.status = status

    def type(self, text):
        self.octets = b""
        self.terminal.input_received(text.encode())
        return self.text

    @property
    def text(self):
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self.octets.replace(b"\x1bE", b"\r\n"))
        return plain.decode().replace("\r\n", "\n")


def run(desk, line):
    """Return the output and the exit status of a line that is the argument of ssh."""
    written, ended = [], []
    command = LineShell(Terminal._commands.__get__(Holding(desk)), written.append, ended.append)
    command.input_received(line.encode())
    command.end_of_input()
    return command, written, ended


class Holding:
    def __init__(self, desk):
        self.desk = desk


def test_the_shell_writes_a_greeting_and_does_not_clear_the_screen():
    terminal = Terminal(opened())
    assert b"\x1bc" not in terminal.octets and "help() lists the commands" in terminal.text
    assert terminal.text.endswith("esxiproxy> ")


def test_output_has_no_quotes_and_a_command_error_no_traceback():
    desk = opened()
    terminal = Terminal(desk)
    shown = terminal.type("sessions()\r")
    assert f"\n{desk.id}  0 " in shown and "\\n" not in shown
    shown = terminal.type("close('nobody')\r")
    assert shown.endswith("no session 'nobody'\nesxiproxy> ")


def test_the_shell_runs_python():
    terminal = Terminal(opened())
    assert "\n42\n" in terminal.type("6 * 7\r")
    terminal.type("for n in range(3):\r    print(n * 11)\r")
    assert "0\n11\n22\n" in terminal.type("\r")
    assert "ZeroDivisionError" in terminal.type("1 / 0\r")


def test_a_ticket_is_hidden_in_any_output():
    terminal = Terminal(opened())
    terminal.type("request = next(iter(sessions.__self__._sessions)).session.request\r")
    for line in (
        "request",
        "print(request)",
        "request.head.target",
        "str(request)",
        "raise ValueError(request)",
    ):
        shown = terminal.type(f"{line}\r")
        assert "cafe1234" not in shown and "/ticket/***" in shown, line


def test_a_trace_shows_its_lines_above_the_input_line():
    desk = opened()
    terminal = Terminal(desk)
    terminal.type(f"trace('{desk.id}')\rsess")
    terminal.octets = b""
    desk.scene.client.send(up(2, b"swordfish"))
    desk.scene.pump()
    assert "client > upstream  binary        fin          9  masked\nesxiproxy> sess" in terminal.text
    assert "swordfish" not in terminal.text
    assert "\nno sessions" not in terminal.type("ions()\r") and desk.id in terminal.text
    shown = terminal.type(f"untrace('{desk.id}')\r")
    assert shown.endswith("trace ended after 1 frame: stopped by untrace()\nesxiproxy> ")


def test_exit_and_control_d_close_the_shell_only():
    for keys in ("exit()\r", "quit()\r", "raise SystemExit\r", "\x04"):
        terminal = Terminal(opened())
        terminal.type(keys)
        assert terminal.status == 0, keys


def test_a_closed_shell_has_no_output_and_no_traces():
    desk = opened()
    terminal = Terminal(desk)
    terminal.type(f"trace('{desk.id}')\r")
    terminal.octets = b""
    terminal.shell.on_closed()
    desk.scene.client.send(up(2, b"x"))
    desk.scene.pump()
    assert terminal.octets == b"" and not terminal.shell.commands.running_traces


def test_resizing_the_window_changes_no_output():
    terminal = Terminal(opened())
    terminal.octets = b""
    terminal.terminal.resize(50, 132)
    assert terminal.octets == b""


def test_a_single_command_ends_after_its_output():
    desk = opened()
    _, written, ended = run(desk, "sessions()")
    assert b"".join(written).endswith(b"1 session\n") and ended == [0]


def test_a_failed_command_has_exit_status_1():
    for line in ("close('nobody')", "1 / 0", "for", "for x in y:"):
        _, written, ended = run(opened(), line)
        assert ended == [1] and written, line


def test_a_single_command_waits_for_its_trace():
    desk = opened()
    _, written, ended = run(desk, f"trace('{desk.id}', frames=1)")
    assert not ended
    desk.scene.host.send(frame(2, b"x"))
    desk.scene.pump()
    assert b"upstream > client" in b"".join(written) and ended == [0]

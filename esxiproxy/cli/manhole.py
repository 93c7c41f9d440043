"""``esxiproxy manhole``: opens the operator shell of the running proxy in this terminal."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN as READABLE
from select import poll, select
from types import FrameType

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import UNREACHABLE, Unreachable
from esxiproxy.core.config.model import manhole_socket
from esxiproxy.ops.manhole.messages import (
    ANSWER_TIMEOUT,
    MAX_CONTENT,
    MAX_UNANSWERED,
    PING_INTERVAL,
    MessageError,
    MessageKind,
    MessageReader,
    ShellRequest,
    ShellStatus,
    encode,
    encode_size,
)
from esxiproxy.ops.manhole.table import plain

NAME = "manhole"
HELP = "open the operator shell of the running proxy"

_DESCRIPTION = """\
Opens the operator shell, a Python prompt in the admin process, or in the process of the
proxy if that is the only one. From the admin process, workers() lists the workers, and
worker(NUMBER) opens the shell of one. Without a terminal the lines of the standard input
are run, and only their output is written.
"""
_LEAVE_INSERT_MODE = b"\x1b[4l"
"""Gives a terminal its mode back, which the shell has changed (ECMA-48 IRM)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_socket_arguments(parser, _DESCRIPTION)
    parser.add_argument("--worker", metavar="N", help="open the shell of this worker")
    parser.add_argument(
        "--generation", type=int, metavar="G", help="with --worker: of this generation, not of the newest"
    )


def run(arguments: argparse.Namespace) -> int:
    """Open the shell; return the exit status."""
    if arguments.generation is not None and arguments.worker is None:
        return admin_client.wrong_usage(arguments, "--generation needs --worker")
    name = f"esxiproxy {NAME}"
    try:
        path = admin_client.socket_path(arguments)
        status = _run_shell(_connected(path), arguments.worker, arguments.generation)
    except Unreachable as error:
        status = ShellStatus(UNREACHABLE, str(error))
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return admin_client.DONE
    except KeyboardInterrupt:
        return admin_client.REFUSED
    if status.text:
        print(f"{name}: {plain(status.text)}", file=sys.stderr)
    return status.status


def _connected(admin_socket: Path) -> socket.socket:
    """Return a connection to the manhole beside the socket of [admin].  Raises Unreachable."""
    path = manhole_socket(admin_socket)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(ANSWER_TIMEOUT)
        connection.connect(os.fspath(path))
        return connection
    except FileNotFoundError:
        if admin_socket.exists():
            text = "does not exist: set manhole and manhole_keys in [proxy], and reload the proxy"
        else:
            text = "does not exist: the proxy is not running, or has no [admin] or no manhole"
    except ConnectionRefusedError:
        text = "belongs to no running process: start the proxy"
    except PermissionError:
        text = (
            "may not be opened by you: run this as root or as the user of the proxy, or let your group "
            "in with socket_group in [admin]"
        )
    except OSError as error:
        text = f"cannot be reached: {error.strerror or error}"
    connection.close()
    raise Unreachable(f"{path} {text}")


def _run_shell(connection: socket.socket, worker: str | None, generation: int | None) -> ShellStatus:
    """Run a shell until its end, and return its status.  Raises Unreachable."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    size = os.get_terminal_size(sys.stdout.fileno()) if is_terminal else os.terminal_size((80, 24))
    request = ShellRequest(is_terminal, size.lines, size.columns, worker, generation)
    with connection:
        client = _ShellClient(connection)
        client.send(request.encode())
        if not is_terminal:
            return client.run()
        with _raw_terminal(), _resized() as resized:
            return client.run(resized)


class _ShellClient:
    """Passes bytes between the standard streams and a shell."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = MessageReader()
        self._status: ShellStatus | None = None
        self._has_input = True
        self._is_ready = False

    def send(self, message: bytes) -> None:
        """Send a message.  Raises Unreachable."""
        try:
            self._connection.sendall(message)
        except TimeoutError:
            raise Unreachable(f"the proxy has not read for {ANSWER_TIMEOUT:g} s: see its log") from None
        except OSError:
            pass  # the status that the shell has sent, or its missing, is read next

    def run(self, resized: int | None = None) -> ShellStatus:
        """Return the status at the end of the shell; ``resized`` is readable after a change of the size.

        Raises Unreachable.
        """
        source = sys.stdin.fileno()
        shell = self._connection.fileno()
        pinged_at, unanswered = time.monotonic(), 0
        while self._status is None:
            waiting = poll()
            waiting.register(shell, READABLE)
            if self._has_input and self._is_ready:
                waiting.register(source, READABLE)
            if resized is not None:
                waiting.register(resized, READABLE)
            ready = {descriptor for descriptor, _ in waiting.poll(PING_INTERVAL * 1000)}
            if shell in ready:
                unanswered = 0
                self._receive()
            if source in ready:
                self._pass_input(os.read(source, MAX_CONTENT))
            if resized in ready and resized is not None:
                os.read(resized, 512)
                size = os.get_terminal_size(sys.stdout.fileno())
                self.send(encode_size(size.lines, size.columns))
            if time.monotonic() - pinged_at >= PING_INTERVAL:
                if unanswered >= MAX_UNANSWERED:
                    raise Unreachable(
                        f"the proxy has not answered for {ANSWER_TIMEOUT:g} s: its event loop is blocked"
                    )
                pinged_at, unanswered = time.monotonic(), unanswered + 1
                self.send(encode(MessageKind.PING))
        return self._status

    def _receive(self) -> None:
        try:
            octets = self._connection.recv(MAX_CONTENT)
        except OSError:
            octets = b""
        if not octets:
            raise Unreachable(
                "the connection was closed: the process of the shell has exited, or you may not open it"
            )
        try:
            for kind, content in self._reader.feed(octets):
                if kind is MessageKind.READY:
                    self._is_ready = True
                elif kind is MessageKind.OUTPUT:
                    _write(content)
                elif kind is MessageKind.STATUS:
                    self._status = ShellStatus.decode(content)
        except MessageError as error:
            raise Unreachable(str(error)) from None

    def _pass_input(self, octets: bytes) -> None:
        if octets:
            self.send(encode(MessageKind.INPUT, octets))
        else:
            self._has_input = False
            self.send(encode(MessageKind.END_OF_INPUT))


def _write(octets: bytes) -> None:
    output = sys.stdout.fileno()
    while octets:
        try:
            octets = octets[os.write(output, octets) :]
        except BlockingIOError:  # another program has set the terminal to this mode
            select([], [output], [])


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass each key to the shell, and give the terminal its mode back at the end."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    tty.setraw(descriptor)
    try:
        yield
    finally:
        _write(_LEAVE_INSERT_MODE)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        _write(b"\r\n")
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """End the command, so that the terminal gets its mode back."""
    sys.exit(128 + number)


@contextmanager
def _resized() -> Iterator[int]:
    """Yield a descriptor that becomes readable when the size of the terminal has changed.

    Python writes to it for each signal, so that none is missed that comes just before a wait.
    """
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        yield reading
    finally:
        signal.signal(signal.SIGWINCH, before)
        signal.set_wakeup_fd(wakeup)
        os.close(reading)
        os.close(writing)

"""The client of the admin API for the terminal commands, over the unix socket of a running proxy."""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from esxiproxy.admin.openapi.document import ACTION_FIELD
from esxiproxy.admin.openapi.operations import BASE, OPERATIONS, Role
from esxiproxy.core.config import ini
from esxiproxy.core.config.admin import RUNTIME_FOLDER, SOCKET_NAME, default_socket
from esxiproxy.ops.manhole.table import plain

DONE, REFUSED, WRONG_USAGE, UNREACHABLE = range(4)
"""Exit statuses."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
EPILOG = """\
exit status: 0 done, 1 the proxy refused it or has nothing of that kind,
2 wrong usage, 3 the proxy cannot be reached
"""
DEFAULT_CONFIG = Path("conf/proxy.ini")
_TIMEOUT = 60.0
"""Seconds that the proxy has to answer."""
_NOT_IMPLEMENTED = 501
_OPERATIONS = {operation.name: operation for operation in OPERATIONS}


class Unreachable(Exception):
    """The running proxy cannot be reached; the text gives the reason and what to do."""


class Refused(Exception):
    """The proxy has refused a request: ``status`` is that of its answer, and the text says why."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class ProxyAnswer(dict[str, Any]):
    """An object in an answer of the proxy.  Raises Refused for a field that only later versions have."""

    def __missing__(self, name: str) -> Any:
        text = f"the proxy is older than this command, and its answer has no {name}"
        text += ": use the command of the proxy's version"
        raise Refused(text, _NOT_IMPLEMENTED)


def add_arguments(parser: argparse.ArgumentParser, description: str, json_help: str | None = None) -> None:
    """Declare the arguments that find the running proxy, and --json."""
    add_socket_arguments(parser, description)
    parser.add_argument("--json", action="store_true", help=json_help or "print a list of JSON objects")


def add_socket_arguments(parser: argparse.ArgumentParser, description: str) -> None:
    """Declare the arguments that find the running proxy."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = description, EPILOG
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--config", type=Path, metavar="FILE", help=f"the configuration of the proxy ({DEFAULT_CONFIG})"
    )
    where.add_argument("--socket", type=Path, metavar="PATH", help="the unix socket of the proxy")


def add_sort(parser: argparse.ArgumentParser, columns: Sequence[str], default: str) -> None:
    """Declare the argument that names the column by which a list is sorted."""
    text = f"by this column ({default}): {', '.join(columns)}"
    parser.add_argument("--sort", choices=columns, default=default, metavar="COLUMN", help=text)


def run(arguments: argparse.Namespace, act: Callable[[AdminClient], int]) -> int:
    """Run a command with a client, print what fails, and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that has not all letters
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = act(AdminClient(socket_path(arguments)))
        sys.stdout.flush()
    except Refused as error:
        _complain(arguments, str(error))
        return WRONG_USAGE if error.status == 400 else REFUSED
    except Unreachable as error:
        _complain(arguments, str(error))
        return UNREACHABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return status


def wrong_usage(arguments: argparse.Namespace, text: str) -> int:
    """Print why a command line is wrong, and return the exit status."""
    _complain(arguments, f"{text} (esxiproxy {arguments.command} --help has all options)")
    return WRONG_USAGE


def _complain(arguments: argparse.Namespace, text: str) -> None:
    print(f"esxiproxy {arguments.command}: {plain(text)}", file=sys.stderr)


def positive(text: str) -> int:
    """Return the value of an option that is a number of lines or of screens."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{plain(text)} is no number above 0")
    return int(text)


def some_text(text: str) -> str:
    """Return the value of an option that must not be empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def say(*lines: str) -> None:
    """Print lines for people.  Control characters are escaped: names are chosen by others."""
    for line in lines:
        print(plain(line))


def print_json(rows: list[Any]) -> int:
    """Print a list of objects, and return the exit status."""
    print(json.dumps(rows, indent=2))
    return DONE


def socket_path(arguments: argparse.Namespace) -> Path:
    """Return the path of the socket that the arguments name.  Raises Unreachable."""
    if arguments.socket is not None:
        path: Path = arguments.socket
        return path
    config: Path | None = arguments.config
    if config is None:
        if not DEFAULT_CONFIG.exists():
            return RUNTIME_FOLDER / SOCKET_NAME
        config = DEFAULT_CONFIG
    return configured_socket(config)


def configured_socket(config: Path) -> Path:
    """Return the path of the socket of the proxy with this configuration.  Raises Unreachable.

    Only the key of the socket is read, since the rest of the file may be in the middle of a change.
    """
    try:
        content = config.read_bytes()
    except OSError as error:
        raise Unreachable(
            f"{config} cannot be read: {error.strerror}; name the socket of the proxy with --socket PATH"
        ) from None
    sections, _problems = ini.parse(content, str(config))
    admin = next((section for section in sections if section.kind == "admin"), None)
    if admin is None:
        raise Unreachable(
            f"{config} has no section [admin]: add the line [admin] and reload the proxy, or name another "
            "configuration with --config FILE"
        )
    folder = config.absolute().parent
    entry = admin.entries.get("socket")
    return default_socket(folder) if entry is None else Path(os.path.normpath(folder / entry.text))


class _UnixConnection(HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class AdminClient:
    """A client of the running proxy with the socket ``path``, which has ``timeout`` seconds to answer."""

    def __init__(self, path: Path, timeout: float = _TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout

    def call(self, name: str, body: Mapping[str, Any] | None = None, **parameters: Any) -> Any:
        """Call an operation of the API and return its answer.  Raises Refused or Unreachable."""
        operation = _OPERATIONS[name]
        path = operation.path
        for parameter in list(parameters):
            if f"{{{parameter}}}" in path:
                path = path.replace(f"{{{parameter}}}", quote(str(parameters.pop(parameter)), ""))
        given = {name: value for name, value in parameters.items() if value is not None}
        query = urlencode(given, errors="surrogateescape")
        fields = {"Host": "localhost", "Accept": "application/json"}
        content = None
        if operation.role is Role.OPERATOR:
            fields |= {ACTION_FIELD: "1", "Content-Type": "application/json"}
            content = json.dumps({name: value for name, value in (body or {}).items() if value is not None})
        target = f"{BASE}{path}{'?' if query else ''}{query}"
        status, answer = self._answer(operation.method, target, content, fields)
        try:
            value = json.loads(answer, object_hook=ProxyAnswer)
        except ValueError:
            raise Unreachable(f"{self.path} gave no JSON: it is no socket of this proxy") from None
        if status != 200:
            error = value.get("error") if isinstance(value, dict) else None
            raise Refused(str(error or f"the answer has the status {status}"), status)
        return value

    def _answer(
        self, method: str, target: str, content: str | None, fields: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Return the status and the body of an answer.  Raises Unreachable."""
        connection = _UnixConnection(self.path, self._timeout)
        try:
            connection.request(method, target, content, dict(fields))
            response = connection.getresponse()
            return response.status, response.read()
        except FileNotFoundError:
            text = (
                "does not exist: the proxy is not running, or runs without [admin], or has another socket, "
                "which --config FILE or --socket PATH names"
            )
        except ConnectionRefusedError:
            text = "belongs to no running process: start the proxy" if self._is_socket() else "is no socket"
        except PermissionError:
            text = (
                "may not be opened by you: run this as root or as the user of the proxy, or let your group "
                "in with socket_group in [admin]"
            )
        except TimeoutError:
            text = f"gave no answer within {self._timeout:g} s: see the log of the proxy"
        except (OSError, HTTPException) as error:
            text = f"failed: {error or type(error).__name__}; see the log of the proxy"
        finally:
            connection.close()
        raise Unreachable(f"{self.path} {text}")

    def _is_socket(self) -> bool:
        try:
            return stat.S_ISSOCK(self.path.stat().st_mode)
        except OSError:
            return True

"""``esxiproxy reload``: checks the configuration and makes a running proxy reload it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from esxiproxy.app.preflight import load_checked
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import DEFAULT_CONFIG, AdminClient, Unreachable, configured_socket
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.ops.manhole.table import plain

NAME = "reload"
HELP = "make a running proxy reload its configuration"

_DESCRIPTION = """\
Checks the file as `esxiproxy check` does and, if it is valid, makes the running
proxy reload it. New connections use the new settings; open consoles keep the
old ones.

With [admin] in the file, the proxy is asked over the unix socket, and the
command prints the outcome. If it cannot be asked there, or with --pidfile,
SIGHUP is sent to the process in the pidfile, and only the log of the proxy has
the outcome.
"""
_EPILOG = """\
exit status: 0 the configuration is in force, or the signal was sent, 1 it is not,
2 wrong usage, 3 the proxy cannot be reached
"""
_PIDFILE = Path("twistd.pid")
_TIMEOUT = 600.0
"""Seconds that a reload may take: the workers start one after the other."""


class NoProcess(Exception):
    """Raised if no running proxy can be signalled; the text gives the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the configuration of the running proxy ({DEFAULT_CONFIG})",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="the unix socket of the proxy, which reloads its own file if --config is not given",
    )
    way.add_argument(
        "--pidfile",
        type=Path,
        metavar="FILE",
        help=f"send a signal to the process in the value of twistd's --pidfile option ({_PIDFILE})",
    )
    parser.add_argument(
        "--reason", type=admin_client.some_text, metavar="TEXT", help="why, for the audit log"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the configuration and let the proxy reload it; return the exit status."""
    if arguments.socket is not None and arguments.config is None:
        return admin_client.run(arguments, lambda client: _reload(arguments, client.path, None))
    config: Path = arguments.config or DEFAULT_CONFIG
    try:
        checked = load_checked(str(config))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return admin_client.REFUSED
    for warning in checked.warnings:
        print(warning, file=sys.stderr)
    if arguments.pidfile is not None:
        return _signalled(config, arguments.pidfile)
    try:
        path = arguments.socket or configured_socket(config)
        _check_configuration(path, config)
    except Unreachable as error:
        if arguments.socket is None and (checked.admin is None or _PIDFILE.exists()):
            return _signalled(config, _PIDFILE)
        print(f"esxiproxy reload: {plain(str(error))}", file=sys.stderr)
        return admin_client.UNREACHABLE
    arguments.socket = path
    return admin_client.run(arguments, lambda client: _reload(arguments, client.path, config))


def _check_configuration(path: Path, config: Path) -> None:
    """Raise Unreachable unless the proxy with this socket runs with this configuration."""
    try:
        found = Path(AdminClient(path).call("configuration")["path"])
    except admin_client.Refused as error:
        raise Unreachable(f"{path}: {error}") from None
    if found.resolve() != config.resolve():
        raise Unreachable(f"the proxy with the socket {path} runs with {found}, not with {config}")


def _reload(arguments: argparse.Namespace, path: Path, config: Path | None) -> int:
    """Let the proxy with this socket reload its configuration, and print the outcome."""
    client = AdminClient(path, _TIMEOUT)
    outcome = client.call("reload", {"reason": arguments.reason})
    name = config or client.call("configuration")["path"]
    if outcome["reloaded"]:
        admin_client.say(f"{name}: ok; it is in force")
        return admin_client.DONE
    for problem in outcome["problems"]:
        print(plain(problem), file=sys.stderr)
    print(
        f"esxiproxy reload: {plain(str(name))} is not in force: everything stays as it was", file=sys.stderr
    )
    return admin_client.REFUSED


def _signalled(config: Path, pidfile: Path) -> int:
    """Send SIGHUP to the process in a pidfile; return the exit status."""
    try:
        process = _process(pidfile)
        _signal(process, pidfile)
    except NoProcess as error:
        print(f"esxiproxy reload: {plain(str(error))}", file=sys.stderr)
        return admin_client.REFUSED
    admin_client.say(f"{config}: ok; process {process} reloads it")
    return admin_client.DONE


def _process(pidfile: Path) -> int:
    try:
        text = pidfile.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        raise NoProcess(
            f"{pidfile} does not exist: no proxy was started with this pidfile, or it has exited"
        ) from None
    except OSError as error:
        raise NoProcess(f"{pidfile} cannot be read: {error.strerror}") from None
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:  # os.kill takes 0 and less for process groups
        raise NoProcess(f"{pidfile} contains no process ID")
    return int(text)


def _signal(process: int, pidfile: Path) -> None:
    """Send SIGHUP, but not to another program that has the process ID of a crashed proxy."""
    try:
        os.kill(process, 0)
        if not _is_proxy(process):
            raise NoProcess(f"{pidfile} is stale: process {process} is another program")
        os.kill(process, signal.SIGHUP)
    except ProcessLookupError:
        raise NoProcess(f"{pidfile} is stale: process {process} does not exist") from None
    except PermissionError:
        raise NoProcess(
            f"process {process} in {pidfile} belongs to another user: run this command as that user"
        ) from None


def _is_proxy(process: int) -> bool:
    """Return whether the process's command line contains esxiproxy; True if it cannot be read."""
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    return b"esxiproxy" in arguments

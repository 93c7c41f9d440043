"""``esxiproxy reload``: checks the configuration and makes a running proxy reload it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError

NAME = "reload"
HELP = "make a running proxy reload its configuration"

_DESCRIPTION = """\
Checks the file as `esxiproxy check` does and, if it is valid, sends SIGHUP to the
process in the pidfile. New connections use the new settings; open consoles keep the
old ones. The proxy's log reports the result.
"""
_EPILOG = "exit status: 0 the signal was sent, 1 it was not, 2 wrong usage"


class NoProcess(Exception):
    """Raised if no running proxy can be signalled; the text gives the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--pidfile",
        type=Path,
        default=Path("twistd.pid"),
        metavar="FILE",
        help="the value of twistd's --pidfile option (twistd.pid)",
    )
    parser.add_argument(
        "--config",
        default="conf/proxy.ini",
        metavar="FILE",
        help="the configuration of the running proxy (conf/proxy.ini)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the configuration and signal the proxy; return 0 on success, else 1."""
    try:
        config = load_checked(arguments.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    try:
        process = _process(arguments.pidfile)
        _signal(process, arguments.pidfile)
    except NoProcess as error:
        print(f"esxiproxy reload: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.config}: ok; process {process} reloads it")
    return 0


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

"""``esxiproxy reload``: has a running proxy read its configuration again, once nothing is wrong with it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError

NAME = "reload"
HELP = "have a running proxy read its configuration again"

_DESCRIPTION = """\
Checks the file as `esxiproxy check` does, and if it is ok sends SIGHUP to the proxy
whose process the pidfile names. New connections get the new settings; consoles that
run go on under the old ones. The proxy's log says how it went.
"""
_EPILOG = "exit status: 0 the proxy was told, 1 it was not, 2 wrong usage"


class NoProcess(Exception):
    """There is no proxy that could be told, and why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--pidfile",
        type=Path,
        default=Path("twistd.pid"),
        metavar="FILE",
        help="what twistd was given as --pidfile (twistd.pid)",
    )
    parser.add_argument(
        "--config",
        default="conf/proxy.ini",
        metavar="FILE",
        help="the configuration that the proxy runs from (conf/proxy.ini)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when the proxy was told."""
    try:
        config = load_checked(arguments.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    try:
        process = _process(arguments.pidfile)
        _tell(process, arguments.pidfile)
    except NoProcess as error:
        print(f"esxiproxy reload: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.config}: ok; process {process} reads it again")
    return 0


def _process(pidfile: Path) -> int:
    try:
        text = pidfile.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        raise NoProcess(f"no {pidfile}: no proxy was started with this pidfile, or it has ended") from None
    except OSError as error:
        raise NoProcess(f"{pidfile} cannot be read: {error.strerror}") from None
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:  # os.kill takes 0 and less for whole groups
        raise NoProcess(f"{pidfile} has no number of a process")
    return int(text)


def _tell(process: int, pidfile: Path) -> None:
    """Send the signal, but not to whoever has got the number of a proxy that ended without a word."""
    try:
        os.kill(process, 0)
        if not _is_proxy(process):
            raise NoProcess(f"{pidfile} is stale: process {process} is another program")
        os.kill(process, signal.SIGHUP)
    except ProcessLookupError:
        raise NoProcess(f"{pidfile} is stale: there is no process {process}") from None
    except PermissionError:
        raise NoProcess(f"process {process} of {pidfile} is somebody else's: ask as its user") from None


def _is_proxy(process: int) -> bool:
    """Whether its command line has us in it; on a system that does not say, it is believed."""
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    return b"esxiproxy" in arguments

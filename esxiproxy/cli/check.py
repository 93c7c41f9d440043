"""``esxiproxy check``: everything that is wrong with a configuration, without binding anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sized

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError

NAME = "check"
HELP = "check configuration files"

_DESCRIPTION = """\
Reads each file as the proxy would and says everything that is wrong with it, one
problem a line on standard error, or on standard output that it is ok. A warning is
about a file that can be used, and opens more than it seems to. Nothing is bound, no
upstream is asked.
"""
_EPILOG = (
    "exit status: 0 all files can be used, 1 there are problems (with --strict: or warnings), 2 wrong usage"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("--strict", action="store_true", help="take a warning for an error")
    parser.add_argument("files", nargs="+", metavar="FILE", help="an INI file, such as conf/proxy.ini")


def run(arguments: argparse.Namespace) -> int:
    """0, or 1 when a file has problems."""
    return max([_check(file, arguments.strict) for file in arguments.files])


def _check(file: str, strict: bool) -> int:
    try:
        config = load_checked(file)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    if strict and config.warnings:
        return 1
    counts = [_count(config.listeners, "listener"), _count(config.upstreams, "upstream")]
    if config.warnings:
        counts.append(_count(config.warnings, "warning"))
    print(f"{file}: ok, {', '.join(counts)}")
    return 0


def _count(things: Sized, noun: str) -> str:
    number = len(things)
    return f"{number} {noun}{'' if number == 1 else 's'}"

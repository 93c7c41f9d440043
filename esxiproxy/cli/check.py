"""``esxiproxy check``: lists all problems of a configuration without binding a port."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sized

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError

NAME = "check"
HELP = "check configuration files"

_DESCRIPTION = """\
Reads each file as the proxy does and prints its problems on standard error, one per
line, or "ok" on standard output. A file with warnings can be used, but allows more
than it seems to. No port is bound and no upstream is contacted.
"""
_EPILOG = (
    "exit status: 0 all files are valid, 1 there are problems (with --strict: or warnings), 2 wrong usage"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
    parser.add_argument("files", nargs="+", metavar="FILE", help="an INI file, such as conf/proxy.ini")


def run(arguments: argparse.Namespace) -> int:
    """Check the files; return 0, or 1 if a file has problems."""
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

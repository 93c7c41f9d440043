"""The ``esxiproxy`` command, which runs a subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn, Protocol, cast

from esxiproxy.core.redaction import redact_text

NAMES = (
    "check",
    "plugins",
    "reload",
    "status",
    "sessions",
    "top",
    "hosts",
    "kill",
    "drain",
    "undrain",
    "watch",
    "link",
    "links",
    "manhole",
    "certificate",
    "doctor",
    "import-nginx",
    "completion",
    "sim",
)
"""The subcommands.  Each one is a module of this package, whose name has underscores for hyphens."""


class Subcommand(Protocol):
    """The interface of a subcommand's module."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the subcommand and return the exit status."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that hides tickets in its error messages."""

    def error(self, message: str) -> NoReturn:
        super().error(redact_text(message))


def subcommand(name: str) -> Subcommand:
    """Return the module of a subcommand, which is imported at its first use.

    All of them together take twice as long to import as a command on a unix socket takes to run.
    """
    return cast(Subcommand, import_module(f"esxiproxy.cli.{name.replace('-', '_')}"))


def argument_parser(names: Iterable[str] = NAMES) -> argparse.ArgumentParser:
    """Return the parser of the command line, with these subcommands."""
    parser = _Parser(
        prog="esxiproxy",
        description="A WebSocket console proxy for VMware ESXi.",
        epilog="The proxy itself is started with: twistd -n esxiproxy --config FILE",
    )
    parser.add_argument("--version", action="version", version=f"esxiproxy {version('esxiproxy')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in map(subcommand, names):
        command = commands.add_parser(module.NAME, help=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run, command=module.NAME)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.  Raises SystemExit(2) for invalid arguments."""
    words = sys.argv[1:] if argv is None else argv
    names = words[:1] if words and words[0] in NAMES else NAMES
    arguments = argument_parser(names).parse_args(words)
    status: int = arguments.run(arguments)
    return status

"""The ``esxiproxy`` command, which runs a subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn, Protocol

from esxiproxy.cli import (
    certificate,
    check,
    completion,
    doctor,
    drain,
    hosts,
    import_nginx,
    kill,
    link,
    links,
    manhole,
    plugins,
    reload,
    sessions,
    sim,
    status,
    top,
    undrain,
    watch,
)
from esxiproxy.core.redaction import redact_text


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


SUBCOMMANDS: tuple[Subcommand, ...] = (
    check,
    plugins,
    reload,
    status,
    sessions,
    top,
    hosts,
    kill,
    drain,
    undrain,
    watch,
    link,
    links,
    manhole,
    certificate,
    doctor,
    import_nginx,
    completion,
    sim,
)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="esxiproxy",
        description="A WebSocket console proxy for VMware ESXi.",
        epilog="The proxy itself is started with: twistd -n esxiproxy --config FILE",
    )
    parser.add_argument("--version", action="version", version=f"esxiproxy {version('esxiproxy')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in SUBCOMMANDS:
        command = commands.add_parser(module.NAME, help=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run, command=module.NAME)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.  Raises SystemExit(2) for invalid arguments."""
    arguments = argument_parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status

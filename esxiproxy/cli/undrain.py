"""``esxiproxy undrain``: lets what is drained take new consoles again."""

from __future__ import annotations

import argparse

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.drain import add_subject, described, subject_of

NAME = "undrain"
HELP = "let a host, an upstream, a listener or the proxy take new consoles again"

_DESCRIPTION = """\
Ends a drain. The arguments are those of `esxiproxy drain`, which lists all drains.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    add_subject(parser)
    parser.add_argument("--reason", metavar="TEXT", help="why, for the audit log")


def run(arguments: argparse.Namespace) -> int:
    """End a drain; return the exit status."""
    if arguments.kind is None:
        return admin_client.wrong_usage(arguments, "say what, as in: esxiproxy undrain host NAME")

    def act(client: AdminClient) -> int:
        ended = client.call("undrain", {**subject_of(arguments), "reason": arguments.reason})["drains"]
        if arguments.json:
            return admin_client.print_json(ended)
        for drain in ended:
            print(f"{described(drain)} takes new consoles again")
        return admin_client.DONE

    return admin_client.run(arguments, act)

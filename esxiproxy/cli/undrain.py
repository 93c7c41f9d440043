"""``esxiproxy undrain``: lets what is drained take new consoles again."""

from __future__ import annotations

import argparse

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient, Refused
from esxiproxy.cli.drain import add_subject, described, subject_of, wrong_subject

NAME = "undrain"
HELP = "let a host, an upstream, a listener or the proxy take new consoles again"

_DESCRIPTION = """\
Ends a drain. The arguments are those of `esxiproxy drain`, which lists all
drains.

  esxiproxy undrain host esx1.example.com
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    add_subject(parser)
    parser.add_argument(
        "--reason", type=admin_client.some_text, metavar="TEXT", help="why, for the audit log"
    )


def run(arguments: argparse.Namespace) -> int:
    """End a drain; return the exit status."""
    problem = wrong_subject(arguments)
    if arguments.kind is None:
        problem = "say what, as in: esxiproxy undrain host NAME"
    if problem is not None:
        return admin_client.wrong_usage(arguments, problem)

    def act(client: AdminClient) -> int:
        body = {**subject_of(arguments), "reason": arguments.reason}
        try:
            ended = client.call("undrain", body)["drains"]
        except Refused as error:
            if error.status != 404:
                raise
            what = " ".join(filter(None, (arguments.kind, arguments.name)))
            raise Refused(f"{what} is not drained; esxiproxy drain lists what is", error.status) from None
        if arguments.json:
            return admin_client.print_json(ended)
        admin_client.say(*(f"{described(drain)} takes new consoles again" for drain in ended))
        return admin_client.DONE

    return admin_client.run(arguments, act)

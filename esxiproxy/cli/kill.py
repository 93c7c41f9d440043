"""``esxiproxy kill``: ends consoles, with a reason that their users see."""

from __future__ import annotations

import argparse

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient, Refused
from esxiproxy.ops.manhole.table import count

NAME = "kill"
HELP = "end consoles, with a reason that their users see"

_DESCRIPTION = """\
Ends a console, or all consoles of a user, on a host or of a link, with the
close code 1008. The consoles may be those of any worker and of any machine that
shares the state. `esxiproxy sessions` lists the ids.

  esxiproxy kill 5f0c2a9be1d44c07 --reason "the host is restarted"
  esxiproxy kill --user alice --reason "the account is locked"
"""
_KINDS = {"session": "id", "principal": "user", "host": "host", "link": "link"}
"""The kinds of an action, and the words for them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    text = admin_client.some_text
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("session", nargs="?", type=text, metavar="ID", help="the id of a session")
    which.add_argument(
        "--principal",
        "--user",
        type=text,
        metavar="NAME",
        help="all consoles of a user, as alice or sso/alice",
    )
    which.add_argument("--host", type=text, metavar="NAME", help="all consoles on a host")
    which.add_argument("--link", type=text, metavar="ID", help="all consoles that a link has opened")
    parser.add_argument(
        "--reason", required=True, type=text, metavar="TEXT", help="why; users see the first 123 bytes"
    )


def run(arguments: argparse.Namespace) -> int:
    """End the consoles; return the exit status."""

    def act(client: AdminClient) -> int:
        kind, value = next((kind, found) for kind in _KINDS if (found := getattr(arguments, kind)))
        try:
            ended = client.call("kill", {"kind": kind, "value": value, "reason": arguments.reason})
        except Refused as error:
            if error.status != 404:
                raise
            text = f"no open console has the {_KINDS[kind]} {value}; esxiproxy sessions lists all of them"
            raise Refused(text, error.status) from None
        if arguments.json:
            return admin_client.print_json([ended])
        admin_client.say(f"{count(ended['sessions'], 'console')} ended")
        return admin_client.DONE

    return admin_client.run(arguments, act)

"""``esxiproxy kill``: ends consoles, with a reason that their users see."""

from __future__ import annotations

import argparse

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.ops.manhole.table import count

NAME = "kill"
HELP = "end consoles, with a reason that their users see"

_DESCRIPTION = """\
Ends a console, or all consoles of a user, on a host or of a link, with the close code
1008. The consoles may be those of any worker and of any machine that shares the state.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("session", nargs="?", metavar="ID", help="the id of a session")
    which.add_argument("--principal", metavar="NAME", help="all consoles of a user, as alice or sso/alice")
    which.add_argument("--host", metavar="NAME", help="all consoles on a host")
    which.add_argument("--link", metavar="ID", help="all consoles that a link has opened")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; users see the first 123 bytes")


def run(arguments: argparse.Namespace) -> int:
    """End the consoles; return the exit status."""

    def act(client: AdminClient) -> int:
        kinds = ("session", "principal", "host", "link")
        kind, value = next((kind, found) for kind in kinds if (found := getattr(arguments, kind)))
        ended = client.call("kill", {"kind": kind, "value": value, "reason": arguments.reason})
        if arguments.json:
            return admin_client.print_json([ended])
        print(f"{count(ended['sessions'], 'console')} ended")
        return admin_client.DONE

    return admin_client.run(arguments, act)

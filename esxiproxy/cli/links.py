"""``esxiproxy links``: lists the links with open consoles, and the revoked ones."""

from __future__ import annotations

import argparse

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.columns import Column, fitted_table, terminal_width
from esxiproxy.ops.manhole.table import count

NAME = "links"
HELP = "list the links with open consoles and the revoked links, or revoke one"

_DESCRIPTION = """\
Lists the links that have opened consoles which are open now, and the links that
were revoked. Links that wait for their first use are not listed. `esxiproxy
link` makes links.

  esxiproxy links --revoke 3q2-7wAAAAB4 --reason "sent to the wrong person"
"""
_COLUMNS = (
    Column("link", lambda link: link["id"]),
    Column("consoles", lambda link: str(link["sessions"]), is_number=True),
    Column("users", lambda link: ", ".join(link["principals"]) or "-", rank=1, least=10),
    Column("host", lambda link: link["host"] or "-", rank=2, least=10),
    Column("revoked", lambda link: "yes" if link["revoked"] else "no"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.add_argument(
        "--revoke",
        type=admin_client.some_text,
        metavar="ID",
        help="revoke the link with this id, and end its consoles",
    )
    parser.add_argument(
        "--reason", type=admin_client.some_text, metavar="TEXT", help="why; required with --revoke"
    )


def run(arguments: argparse.Namespace) -> int:
    """List the links or revoke one; return the exit status."""
    if (arguments.revoke is None) is not (arguments.reason is None):
        return admin_client.wrong_usage(arguments, "--revoke ID and --reason TEXT belong together")

    def act(client: AdminClient) -> int:
        if arguments.revoke is not None:
            ended = client.call("revoke_link", {"id": arguments.revoke, "reason": arguments.reason})
            if arguments.json:
                return admin_client.print_json([ended])
            admin_client.say(
                f"link {arguments.revoke} opens no more consoles; {count(ended['sessions'], 'console')} ended"
            )
            return admin_client.DONE
        links = client.call("list_links")["links"]
        if arguments.json:
            return admin_client.print_json(links)
        if links:
            admin_client.say(*fitted_table(_COLUMNS, links, terminal_width()))
        else:
            admin_client.say("no link has an open console, and no link is revoked")
        return admin_client.DONE

    return admin_client.run(arguments, act)

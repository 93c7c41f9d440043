"""``esxiproxy links``: lists the links with open consoles, and the revoked ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.ops.manhole.table import count, table

NAME = "links"
HELP = "list the links with open consoles and the revoked links, or revoke one"

_DESCRIPTION = """\
Lists the links that have opened consoles which are open now, and the links that were
revoked. `esxiproxy link` makes links.
"""
_HEADER = ("link", "consoles", "users", "host", "revoked")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.add_argument("--revoke", metavar="ID", help="revoke the link with this id, and end its consoles")
    parser.add_argument("--reason", metavar="TEXT", help="why; required with --revoke")


def run(arguments: argparse.Namespace) -> int:
    """List the links or revoke one; return the exit status."""
    if arguments.revoke is not None and not arguments.reason:
        return admin_client.wrong_usage(arguments, "--revoke needs --reason TEXT")

    def act(client: AdminClient) -> int:
        if arguments.revoke is not None:
            ended = client.call("revoke_link", {"id": arguments.revoke, "reason": arguments.reason})
            if arguments.json:
                return admin_client.print_json([ended])
            print(f"revoked {arguments.revoke}; {count(ended['sessions'], 'console')} ended")
            return admin_client.DONE
        links = client.call("list_links")["links"]
        if arguments.json:
            return admin_client.print_json(links)
        print(table(_HEADER, map(_row, links)))
        return admin_client.DONE

    return admin_client.run(arguments, act)


def _row(link: Mapping[str, Any]) -> Sequence[str]:
    return (
        link["id"],
        str(link["sessions"]),
        ", ".join(link["principals"]) or "-",
        link["host"] or "-",
        "yes" if link["revoked"] else "no",
    )

"""``esxiproxy hosts``: lists the hosts, their health and their connections."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from esxiproxy.admin.openapi.operations import HOST_COLUMNS
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.sessions import listed
from esxiproxy.ops.manhole.table import count, table

NAME = "hosts"
HELP = "list the hosts, their health and their connections"

_DESCRIPTION = """\
Lists the hosts of upstreams, of inventories, and of open consoles: those first that are
nearest to their max_connections.
"""
_HEADER = ("host", "upstream", "health", "consoles", "connections", "drained", "failures", "last failure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.add_argument("--filter", metavar="WORDS", help="only lines with these words")
    parser.add_argument("--sort", choices=HOST_COLUMNS, default="usage", help="the column (usage)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N lines (all)")


def run(arguments: argparse.Namespace) -> int:
    """List the hosts; return the exit status."""

    def act(client: AdminClient) -> int:
        order = "asc" if arguments.sort in ("host", "upstream", "health") else "desc"
        query = {"filter": arguments.filter, "sort": arguments.sort, "order": order}
        rows, matching = listed(client, "list_hosts", "hosts", arguments.limit, **query)
        if arguments.json:
            return admin_client.print_json(rows)
        print(table(_HEADER, map(_row, rows)))
        print(f"\n{count(matching, 'host')}")
        return admin_client.DONE

    return admin_client.run(arguments, act)


def _row(host: Mapping[str, Any]) -> Sequence[str]:
    used = "-" if host["connections"] is None else str(host["connections"])
    limit = "" if host["limit"] is None else f" of {host['limit']}"
    return (
        host["host"],
        host["upstream"],
        host["health"],
        str(host["sessions"]),
        f"{used}{limit}",
        "yes" if host["drained"] else "no",
        str(host["failures"]),
        host["last_failure"] or "-",
    )

"""``esxiproxy hosts``: lists the hosts, their health and their connections."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from esxiproxy.admin.openapi.operations import HOST_COLUMNS
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.columns import Column, fitted_table, terminal_width
from esxiproxy.cli.sessions import listed
from esxiproxy.ops.manhole.table import count

NAME = "hosts"
HELP = "list the hosts, their health and their connections"

_DESCRIPTION = """\
Lists the hosts of upstreams, of inventories, and of open consoles: those first
that are nearest to their max_connections. Each word of a filter has to be in
the line; `health:down` looks into one column. A narrow terminal gets fewer
columns; a file, a pipe and --json get all of them.

  esxiproxy hosts --filter health:down
"""
_EPILOG = """\
exit status: 0 done, 1 no host fits, or the proxy refused it, 2 wrong usage,
3 the proxy cannot be reached
"""
_TEXT_COLUMNS = ("host", "upstream", "health")


def used_of(host: Mapping[str, Any]) -> str:
    """Return the connections of a host and their limit, such as ``7 of 64``."""
    used = "-" if host["connections"] is None else str(host["connections"])
    return used if host["limit"] is None else f"{used} of {host['limit']}"


_COLUMNS = (
    Column("host", lambda host: host["host"], least=24),
    Column("upstream", lambda host: host["upstream"], rank=6, least=8),
    Column("health", lambda host: "-" if host["health"] == "unknown" else str(host["health"]), rank=1),
    Column("consoles", lambda host: str(host["sessions"]), rank=1, is_number=True),
    Column("connections", used_of, is_number=True),
    Column("drained", lambda host: "yes" if host["drained"] else "no", rank=2, usual="no"),
    Column("failures", lambda host: str(host["failures"]), rank=5, usual="0", is_number=True),
    Column("last failure", lambda host: host["last_failure"] or "-", rank=3, least=24),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.epilog = _EPILOG
    parser.add_argument("--filter", metavar="WORDS", help="only lines with these words")
    admin_client.add_sort(parser, HOST_COLUMNS, "usage")
    parser.add_argument("--limit", type=admin_client.positive, metavar="N", help="at most N lines (all)")


def run(arguments: argparse.Namespace) -> int:
    """List the hosts; return the exit status."""

    def act(client: AdminClient) -> int:
        order = "asc" if arguments.sort in _TEXT_COLUMNS else "desc"
        query = {"filter": arguments.filter, "sort": arguments.sort, "order": order}
        rows, matching = listed(client, "list_hosts", "hosts", arguments.limit, **query)
        if arguments.json:
            admin_client.print_json(rows)
        else:
            shown = "" if len(rows) == matching else f", {len(rows)} of them shown"
            table = [*fitted_table(_COLUMNS, rows, terminal_width()), ""] if rows else []
            admin_client.say(*table, f"{count(matching, 'host')}{shown}")
        return admin_client.REFUSED if arguments.filter and not rows else admin_client.DONE

    return admin_client.run(arguments, act)

"""``esxiproxy sessions``: lists the open consoles of all workers and machines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from esxiproxy.admin.openapi.operations import SESSION_COLUMNS
from esxiproxy.admin.openapi.schemas import MAX_PAGE
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.ops.manhole.table import age, count, milliseconds, size, table

NAME = "sessions"
HELP = "list the open consoles"

_DESCRIPTION = """\
Lists the open consoles of all workers, and of all machines that share the state. A
filter is one or more words that a line has to contain; `host:esx1` looks into one
column.
"""
HEADER = ("session", "user", "client", "listener", "host", "console", "age", "idle", "up", "down", "ping")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.add_argument("--filter", metavar="WORDS", help="only lines with these words")
    parser.add_argument("--sort", choices=SESSION_COLUMNS, default="since", help="the column (since)")
    parser.add_argument("--desc", action="store_true", help="the largest first")
    for name in ("principal", "host", "upstream", "listener", "link"):
        parser.add_argument(f"--{name}", metavar="NAME", help=f"only those of this {name}")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N lines (all)")


def run(arguments: argparse.Namespace) -> int:
    """List the sessions; return the exit status."""

    def act(client: AdminClient) -> int:
        rows, matching = listed(client, "list_sessions", "sessions", arguments.limit, **_query(arguments))
        if arguments.json:
            return admin_client.print_json(rows)
        print(table(HEADER, map(row_of, rows)))
        shown = "" if len(rows) == matching else f", {len(rows)} of them shown"
        print(f"\n{count(matching, 'open console')}{shown}")
        return admin_client.DONE

    return admin_client.run(arguments, act)


def _query(arguments: argparse.Namespace) -> dict[str, Any]:
    exact = {name: getattr(arguments, name) for name in ("principal", "host", "upstream", "listener", "link")}
    order = "desc" if arguments.desc else "asc"
    return {"filter": arguments.filter, "sort": arguments.sort, "order": order, **exact}


def listed(
    client: AdminClient, operation: str, name: str, limit: int | None, **query: Any
) -> tuple[list[dict[str, Any]], int]:
    """Return at most ``limit`` rows of a list, read in pages, and the number of matching rows."""
    rows: list[dict[str, Any]] = []
    while True:
        most = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(rows))
        page = client.call(operation, offset=len(rows), limit=max(most, 1), **query)
        rows += page[name]
        is_last = not page[name] or len(rows) >= page["matching"]
        if is_last or (limit is not None and len(rows) >= limit):
            return rows[:limit], page["matching"]


def row_of(session: Mapping[str, Any]) -> Sequence[str]:
    """Return the cells of a session."""
    return (
        session["id"],
        session["principal"],
        session["client"],
        session["listener"],
        session["host"],
        session["console"] or "-",
        age(session["age"]),
        "-" if session["idle"] is None else age(session["idle"]),
        _size(session["bytes_up"]),
        _size(session["bytes_down"]),
        milliseconds(session["round_trip"]),
    )


def _size(octets: int | None) -> str:
    return "-" if octets is None else size(octets)

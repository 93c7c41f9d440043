"""``esxiproxy sessions``: lists the open consoles of all workers and machines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from esxiproxy.admin.openapi.operations import SESSION_COLUMNS
from esxiproxy.admin.openapi.schemas import MAX_PAGE
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.columns import Column, bytes_or_dash, fitted_table, terminal_width
from esxiproxy.ops.manhole.table import age, count, milliseconds

NAME = "sessions"
HELP = "list the open consoles"

_DESCRIPTION = """\
Lists the open consoles of all workers, and of all machines that share the
state. Each word of a filter has to be in the line; `host:esx1` looks into one
column. A narrow terminal gets fewer columns; a file, a pipe and --json get all
of them.

Idle time, bytes and ping are measured while they are read. The first reader
waits for them for up to 7 seconds; --now prints the list at once.

  esxiproxy sessions --host esx1.example.com
  esxiproxy sessions --sort idle --desc --limit 10
"""
_EPILOG = """\
exit status: 0 done, 1 no console fits, or the proxy refused it, 2 wrong usage,
3 the proxy cannot be reached
"""
EXACT = ("principal", "host", "upstream", "listener", "link")
_MEASURED_WITHIN = 7.0
"""Seconds within which all processes report the figures of their consoles."""
_RETRY_INTERVAL = 0.5


def _or_dash(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda session: session[name] or "-"


def _idle(session: Mapping[str, Any]) -> str:
    return "-" if session["idle"] is None else age(session["idle"])


ID = Column("session", _or_dash("id"))
USER = Column("user", _or_dash("principal"), least=8)
CLIENT = Column("client", _or_dash("client"), rank=4, least=15)
HOST = Column("host", _or_dash("host"), least=10)
CONSOLE = Column("console", _or_dash("console_name"), rank=2, least=8)
AGE = Column("age", lambda session: age(session["age"]), rank=1, is_number=True)
PING = Column("ping", lambda session: milliseconds(session["round_trip"]), rank=6, is_number=True)
STATE = Column("state", _or_dash("state"), rank=3, usual="open")
COLUMNS = (
    ID,
    USER,
    CLIENT,
    Column("listener", _or_dash("listener"), rank=8, least=8),
    HOST,
    CONSOLE,
    AGE,
    Column("idle", _idle, rank=5, is_number=True),
    Column("up", lambda session: bytes_or_dash(session["bytes_up"]), rank=7, is_number=True),
    Column("down", lambda session: bytes_or_dash(session["bytes_down"]), rank=5, is_number=True),
    PING,
    STATE,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.epilog = _EPILOG
    parser.add_argument("--filter", metavar="WORDS", help="only lines with these words")
    admin_client.add_sort(parser, SESSION_COLUMNS, "since")
    parser.add_argument("--desc", action="store_true", help="the largest first")
    for name in EXACT:
        options = (f"--{name}", "--user") if name == "principal" else (f"--{name}",)
        parser.add_argument(
            *options,
            dest=name,
            type=admin_client.some_text,
            metavar="NAME",
            help=f"only those of this {'user' if name == 'principal' else name}",
        )
    parser.add_argument("--limit", type=admin_client.positive, metavar="N", help="at most N lines (all)")
    parser.add_argument("--now", action="store_true", help="do not wait until the figures are measured")


def run(arguments: argparse.Namespace) -> int:
    """List the sessions; return the exit status."""
    query = _query(arguments)

    def act(client: AdminClient) -> int:
        if not arguments.now:
            await_figures(client, query)
        rows, matching = listed(client, "list_sessions", "sessions", arguments.limit, **query)
        if arguments.json:
            admin_client.print_json(rows)
        else:
            shown = "" if len(rows) == matching else f", {len(rows)} of them shown"
            table = [*fitted_table(COLUMNS, rows, terminal_width()), ""] if rows else []
            admin_client.say(*table, f"{count(matching, 'open console')}{shown}")
        is_filtered = any(query[name] for name in ("filter", *EXACT))
        return admin_client.REFUSED if is_filtered and not rows else admin_client.DONE

    return admin_client.run(arguments, act)


def _query(arguments: argparse.Namespace) -> dict[str, Any]:
    exact = {name: getattr(arguments, name) for name in EXACT}
    order = "desc" if arguments.desc else "asc"
    return {"filter": arguments.filter, "sort": arguments.sort, "order": order, **exact}


def await_figures(client: AdminClient, query: Mapping[str, Any], figure: str = "bytes_up") -> None:
    """Wait until a figure of the first consoles is measured, for at most 7 s.

    The processes begin to measure when the first reader asks.
    """
    end = time.monotonic() + _MEASURED_WITHIN
    is_told = False
    while time.monotonic() < end:
        sessions = client.call("list_sessions", limit=MAX_PAGE, **query)["sessions"]
        if all(session[figure] is not None for session in sessions):
            break
        if not is_told and sys.stderr.isatty():
            is_told = True
            print("measuring...", end="", file=sys.stderr, flush=True)
        time.sleep(_RETRY_INTERVAL)
    if is_told:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def listed(
    client: AdminClient, operation: str, name: str, limit: int | None, **query: Any
) -> tuple[list[dict[str, Any]], int]:
    """Return at most ``limit`` rows of a list, read in pages, and the number of matching rows.

    A row that moves to the next page between two requests is returned once.
    """
    rows: list[dict[str, Any]] = []
    offset = 0
    while True:
        most = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(rows))
        page = client.call(operation, offset=offset, limit=most, **query)
        rows += page[name]
        offset += len(page[name])
        is_last = not page[name] or offset >= page["matching"]
        if is_last or (limit is not None and len(rows) >= limit):
            return _unique(rows), page["matching"]


def _unique(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without those of an id that was there before."""
    seen: dict[Any, dict[str, Any]] = {}
    for row in rows:
        seen.setdefault(row.get("id", id(row)), row)
    return list(seen.values())

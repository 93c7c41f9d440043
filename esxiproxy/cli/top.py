"""``esxiproxy top``: shows the busiest consoles, again and again."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from esxiproxy.admin.openapi.operations import SESSION_COLUMNS
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.status import summary
from esxiproxy.ops.manhole.table import age, milliseconds, size, table

NAME = "top"
HELP = "show the busiest consoles, again and again"

_DESCRIPTION = """\
Shows the consoles with the most traffic, every two seconds, until Ctrl-C. Into a file
or a pipe it writes one screen and ends, unless --count says otherwise.
"""
_HEADER = ("session", "user", "client", "host", "console", "age", "up/s", "down/s", "ping", "state")
_CLEAR = "\x1b[H\x1b[J"
_RESERVED_LINES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.add_argument("--sort", choices=SESSION_COLUMNS, default="rate_down", help="the column (rate_down)")
    parser.add_argument("--filter", metavar="WORDS", help="only lines with these words")
    parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS", help="between screens (2)")
    parser.add_argument("--count", type=int, metavar="N", help="end after N screens")


def run(arguments: argparse.Namespace) -> int:
    """Show screens; return the exit status."""
    interval = max(0.2, arguments.interval)
    live = sys.stdout.isatty() and not arguments.json
    screens = arguments.count if arguments.count is not None else None if live else 1

    def act(client: AdminClient) -> int:
        number = 0
        while screens is None or number < screens:
            if number:
                time.sleep(interval)
            number += 1
            width, height = shutil.get_terminal_size()
            rows = max(1, height - _RESERVED_LINES) if live else 50
            status = client.call("status")
            query = {"sort": arguments.sort, "filter": arguments.filter}
            page = client.call("list_sessions", order="desc", limit=min(rows, 500), **query)
            if arguments.json:
                admin_client.print_json(page["sessions"])
                continue
            lines = [summary(status), "", *table(_HEADER, map(_row, page["sessions"])).splitlines()]
            text = "\n".join(line[:width] if live else line for line in lines)
            print(f"{_CLEAR if live else ''}{text}", flush=True)
        return admin_client.DONE

    try:
        return admin_client.run(arguments, act)
    except KeyboardInterrupt:
        print()
        return admin_client.DONE


def _row(session: Mapping[str, Any]) -> Sequence[str]:
    return (
        session["id"],
        session["principal"],
        session["client"],
        session["host"],
        session["console"] or "-",
        age(session["age"]),
        _rate(session["rate_up"]),
        _rate(session["rate_down"]),
        milliseconds(session["round_trip"]),
        session["state"],
    )


def _rate(octets: float | None) -> str:
    return "-" if octets is None else size(int(octets))

"""`esxiproxy sim`: the simulated ESXi host alone, for a demo or for somebody's CI."""

from __future__ import annotations

import argparse
import sys

from esxiproxy.sim.__main__ import add_arguments as add_host_arguments
from esxiproxy.sim.__main__ import options_of, serve

NAME = "sim"
HELP = "run a simulated ESXi host until SIGTERM or SIGINT"

_DESCRIPTION = """\
A host with tickets, limits, subprotocols and faults on demand, and a console that
shows a clock. When it is ready it prints one line of JSON: its ws and wss URLs, and
its certificate with both thumbprints. GET /sim/ticket gives a ticket.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that the host has an option for."""
    parser.description = _DESCRIPTION
    add_host_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; 2 when the options contradict each other, 1 when it cannot listen."""
    try:
        options = options_of(arguments)
    except ValueError as error:
        print(f"esxiproxy sim: {error}", file=sys.stderr)
        return 2
    return serve(options)

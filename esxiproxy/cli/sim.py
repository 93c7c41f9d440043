"""``esxiproxy sim``: runs a simulated ESXi host or vCenter alone, for demonstrations and CI."""

from __future__ import annotations

import argparse
import sys

from esxiproxy.sim.__main__ import add_arguments as add_host_arguments
from esxiproxy.sim.__main__ import options_from, serve

NAME = "sim"
HELP = "run a simulated ESXi host or vCenter until SIGTERM or SIGINT"

_DESCRIPTION = """\
Simulates a host with tickets, limits, subprotocols and faults on demand, and a console
that shows a clock. When the host is ready, the command prints one line of JSON: the ws
and wss URLs, and the certificate with both thumbprints. GET /sim/ticket returns a ticket.

With --vcenter it simulates a vCenter with a dozen machines on three hosts: SOAP at /sdk, tags
at /api, pictures at /screen, tickets for consoles. Its control port has faults on demand.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = _DESCRIPTION
    add_host_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return 2 for contradictory options, 1 if a port cannot be bound."""
    try:
        options = options_from(arguments)
    except ValueError as error:
        print(f"esxiproxy sim: {error}", file=sys.stderr)
        return 2
    return serve(options)

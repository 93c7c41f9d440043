"""`python -m esxiproxy.sim`: a simulated ESXi host or vCenter in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from esxiproxy.sim.faults import FaultPlan, SimFault
from esxiproxy.sim.host import SimulatedHost
from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.vcenter import program
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.vcenter import SimulatedVCenter


def _port(text: str) -> int | None:
    if text == "none":
        return None
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of `HostOptions` and of a vCenter to a parser, with its default."""
    default = HostOptions()
    plan = default.fault
    add = parser.add_argument
    add("--interface", default=default.interface, help="address to bind (%(default)s)")
    add("--port", type=_port, default=0, help="plain ws port; 0 for a free port, none for no port")
    add("--tls-port", type=_port, default=0, help="wss port; 0 for a free port, none for no port")
    add("--certificate", type=Path, help="PEM file; created together with its key if missing")
    add("--private-key", type=Path, help="the certificate's key (the certificate's path with .key)")
    add(
        "--subprotocols",
        type=lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
        default=default.subprotocols,
        metavar="NAME,..",
        help="supported subprotocols, the preferred one first (binary)",
    )
    flag = argparse.BooleanOptionalAction
    add(
        "--require-subprotocol",
        action=flag,
        default=True,
        help="drop a client that offers no supported subprotocol",
    )
    add("--answer-pings", action=flag, default=False, help="answer Ping frames, which ESXi does not")
    add("--max-connections", type=int, default=default.max_connections, help="0: no limit (%(default)s)")
    add("--ticket-lifetime", type=float, default=default.ticket_lifetime, help="seconds (%(default)s)")
    add("--ticket-endpoint", action=flag, default=True, help="GET /sim/ticket returns a ticket")
    add("--allow-fault-query", action=flag, default=True, help="?fault=NAME applies a fault to one request")
    add(
        "--fault",
        type=SimFault,
        metavar="NAME",
        help="apply this fault to every request: " + ", ".join(fault.value for fault in SimFault),
    )
    add(
        "--fault-seconds",
        type=float,
        default=plan.seconds,
        help="seconds before the answer, or after the 101",
    )
    add("--fault-status", type=int, default=plan.status)
    add("--fault-body", default=plan.body)
    add("--fault-code", type=int, default=plan.code)
    add("--fault-reason", default=plan.reason)
    add("--width", type=int, default=default.width)
    add("--height", type=int, default=default.height)
    add("--name", default=default.name, help="the virtual machine's name")
    add(
        "--frame-interval",
        type=float,
        default=default.frame_interval,
        help="seconds between updates; 0 for none",
    )
    add("--message-size", type=int, default=default.message_size, help="bytes; 0 for one update a message")
    add("--close-timeout", type=float, default=default.close_timeout, help="seconds (%(default)s)")
    program.add_arguments(parser)


def options_from(arguments: argparse.Namespace) -> HostOptions | VCenterOptions:
    """Return the options in parsed arguments. Raises ValueError if they contradict each other."""
    plan = FaultPlan(
        arguments.fault,
        arguments.fault_seconds,
        arguments.fault_status,
        arguments.fault_body,
        arguments.fault_code,
        arguments.fault_reason,
    )
    names = [field.name for field in fields(HostOptions) if field.name != "fault"]
    host = HostOptions(fault=plan, **{name: getattr(arguments, name) for name in names})
    return program.options_from(arguments, host) if arguments.vcenter else host


def run(argv: Sequence[str] | None = None) -> int:
    """Run a host or a vCenter until SIGTERM or SIGINT. It prints one line of JSON when it is ready."""
    parser = argparse.ArgumentParser(prog="esxiproxy sim", description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        options = options_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    return serve(options)


def serve(options: HostOptions | VCenterOptions) -> int:
    """Run a host or a vCenter with these options in this process's reactor and return the exit status."""
    # The import installs the reactor, which only a program may do and not a library.
    from twisted.internet import reactor as installed
    from twisted.internet.error import CannotListenError

    reactor: Any = installed
    name = "ESXi host" if isinstance(options, HostOptions) else "vCenter"
    try:
        service: SimulatedHost | SimulatedVCenter
        if isinstance(options, HostOptions):
            service = SimulatedHost(options, reactor)
        else:
            service = SimulatedVCenter(options, reactor)
        service.startService()
    except (OSError, ValueError, CannotListenError) as error:
        print(f"simulated {name}: {error}", file=sys.stderr)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    print(service.announcement, file=sys.stderr, flush=True)
    print(json.dumps(_ready(service)), flush=True)
    reactor.run()
    return 0


def _ready(service: SimulatedHost | SimulatedVCenter) -> dict[str, Any]:
    if isinstance(service, SimulatedVCenter):
        return program.ready_line(service)
    return {
        "wss": service.wss_url,
        "ws": service.ws_url,
        "sha256": service.certificate.sha256,
        "sha1": service.certificate.sha1,
        "pem": service.certificate.pem,
    }


if __name__ == "__main__":
    sys.exit(run())

"""The arguments of `esxiproxy sim --vcenter`, and the line that it prints when it is ready."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.vcenter.options import VERSIONS, VCenterOptions, ticket_parts
from esxiproxy.sim.vcenter.vcenter import SimulatedVCenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a vCenter to a parser, with their defaults."""
    default = VCenterOptions()
    group = parser.add_argument_group(
        "vCenter",
        "With --vcenter, a vCenter at --tls-port with hosts that have the other options. "
        "The password is: simulated",
    )
    add = group.add_argument
    add("--vcenter", action="store_true", help="simulate a vCenter instead of a single host")
    add("--machines", type=int, default=default.machines, help="number of machines (%(default)s)")
    add("--hosts", type=int, default=default.hosts, help="number of hosts (%(default)s)")
    add("--user", default=default.user, help="user of the account (%(default)s)")
    add("--session-idle", type=float, default=default.session_idle, help="seconds (%(default)s)")
    add("--task-time", type=float, default=default.task_time, help="seconds of an operation (%(default)s)")
    add(
        "--ticket-parts",
        type=ticket_parts,
        default=default.ticket_parts,
        metavar="NAME,..",
        help="parts of a ticket: host, url, sha1, sha256, pem, wrong (host,pem,sha1,sha256,url)",
    )
    add("--api-version", choices=VERSIONS, default=default.version, metavar="X.Y.Z.W", help="(%(default)s)")
    add("--control-port", type=int, default=0, help="HTTP port for faults on demand; 0 for a free port")


def options_from(arguments: argparse.Namespace, host: HostOptions) -> VCenterOptions:
    """Return the options in parsed arguments. Raises ValueError if they contradict each other.

    `host` has the options of the hosts.
    """
    if arguments.tls_port is None:
        raise ValueError("a vCenter needs a tls_port")
    return VCenterOptions(
        interface=arguments.interface,
        port=arguments.tls_port,
        control_port=arguments.control_port,
        certificate=arguments.certificate,
        private_key=arguments.private_key,
        user=arguments.user,
        version=arguments.api_version,
        machines=arguments.machines,
        hosts=arguments.hosts,
        session_idle=arguments.session_idle,
        task_time=arguments.task_time,
        ticket_parts=arguments.ticket_parts,
        host=replace(host, port=None, tls_port=0, certificate=None, private_key=None, ticket_endpoint=False),
    )


def ready_line(vcenter: SimulatedVCenter) -> dict[str, Any]:
    """Return the facts that a running vCenter prints."""
    return {
        "url": vcenter.url,
        "control": vcenter.control_url,
        "user": vcenter.options.user,
        "sha256": vcenter.certificate.sha256,
        "sha1": vcenter.certificate.sha1,
        "pem": vcenter.certificate.pem,
    }

"""Limits of a configuration that the machine or the hosts contradict."""

from __future__ import annotations

from collections.abc import Iterator

from esxiproxy.core.config.listen_address import BACKLOG
from esxiproxy.core.config.model import Config
from esxiproxy.doctor.configuration.machine import ProxyMachine
from esxiproxy.doctor.configuration.pairs import Pair, limit_warning, pairs_of
from esxiproxy.doctor.configuration.result import CheckResult
from esxiproxy.ops.process.descriptors import sessions_within

HOST_CONNECTIONS = 128
"""HTTPS connections that an ESXi host accepts."""
FEW_SESSIONS = 256
"""A limit on open files that allows fewer consoles than this is worth a warning."""

_AS_THE_SERVICE = (
    "This is the limit of this shell: to see that of the service, run the doctor with `systemd-run --pipe -p "
    "User=USER -p LimitNOFILE=NUMBER esxiproxy doctor ..`, with the values of its unit"
)


def limit_findings(config: Config, machine: ProxyMachine) -> list[CheckResult]:
    """Return the findings on the numbers of sessions, connections and processes."""
    return [
        *_open_files(config, machine),
        *_workers(config, machine),
        *_connections(config, machine),
        *_handshakes(config, machine),
    ]


# Open files and processes


def _open_files(config: Config, machine: ProxyMachine) -> Iterator[CheckResult]:
    """Yield a warning if the limit on open files is too low for the consoles that listeners may have."""
    fit = sessions_within(machine.open_files - len(config.listeners))
    if fit is None:
        return
    limits = [listener.connection_limits.max_sessions for listener in config.listeners]
    wanted = sum(limit for limit in limits if limit is not None)
    total = fit * config.workers
    each = " in each worker" if config.workers > 1 else ""
    fits = f"the limit on open files, {machine.open_files:g}, is enough for {fit} consoles{each}"
    if wanted > total:
        yield limit_warning(
            "proxy",
            "max_sessions",
            f"{fits}, and the listeners allow {wanted}: raise the limit (LimitNOFILE= in systemd, ulimit -n "
            f"in a shell), or lower max_sessions. {_AS_THE_SERVICE}",
        )
    elif fit < FEW_SESSIONS:
        yield limit_warning(
            "proxy",
            "",
            f"{fits}: raise it (LimitNOFILE= in systemd, ulimit -n in a shell). {_AS_THE_SERVICE}",
        )


def _workers(config: Config, machine: ProxyMachine) -> Iterator[CheckResult]:
    if config.workers > machine.cpus:
        yield limit_warning(
            "proxy",
            "workers",
            f"{config.workers} workers share {machine.cpus} CPU{'s' * (machine.cpus > 1)}: write workers = "
            "auto, more of them only use memory",
        )


# Connections to hosts


def _connections(config: Config, machine: ProxyMachine) -> Iterator[CheckResult]:
    """Yield warnings for numbers of connections that a host or the machine cannot have, each once."""
    seen = set()
    for pair in pairs_of(config):
        most = pair.connection_limits.max_connections
        section = pair.section_of("max_connections")
        for finding in _on_connections(most, machine):
            result = limit_warning(section, "max_connections", finding)
            if result not in seen:
                seen.add(result)
                yield result


def _on_connections(most: int | None, machine: ProxyMachine) -> Iterator[str]:
    if most is None or most >= HOST_CONNECTIONS:
        yield (
            f"{'is off' if most is None else f'{most} connections'}, and an ESXi host accepts "
            f"{HOST_CONNECTIONS} in all: without a free one it is Not Responding in vCenter. Write "
            "max_connections = 64, unless the upstream is no ESXi host"
        )
    if machine.ports is not None and (most or 0) > machine.ports:
        yield (
            f"{most} connections to one address need as many ephemeral ports, and this machine has "
            f"{machine.ports}: widen net.ipv4.ip_local_port_range, or lower max_connections"
        )


# Connections of clients


def _handshakes(config: Config, machine: ProxyMachine) -> Iterator[CheckResult]:
    for listener in config.listeners:
        most = listener.connection_limits.max_handshakes
        section = Pair(config, listener, None).section_of("max_handshakes")
        if most is not None and most < config.workers:
            yield limit_warning(
                section,
                "max_handshakes",
                f"{most} is less than one for each of the {config.workers} workers: raise it to "
                f"{config.workers} at least",
            )
    wanted = [listener.connection_limits.max_handshakes or BACKLOG for listener in config.listeners]
    least = min(BACKLOG, max(wanted, default=0))
    if machine.backlog is not None and machine.backlog < least:
        yield limit_warning(
            "proxy",
            "max_handshakes",
            f"the system queues {machine.backlog} new connections of a listener (net.core.somaxconn), and "
            f"the proxy asks for {least}: clients that connect at once are dropped before max_handshakes "
            f"counts them. Run sysctl -w net.core.somaxconn={max(4096, least)}",
        )

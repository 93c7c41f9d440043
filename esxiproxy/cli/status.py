"""``esxiproxy status``: shows the state of the running proxy in a few lines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esxiproxy.admin.openapi.schemas import MAX_PAGE
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.columns import Column, fitted_table, terminal_width, wrapped
from esxiproxy.cli.hosts import used_of
from esxiproxy.ops.manhole.table import age, count, milliseconds, size

NAME = "status"
HELP = "show the state of the running proxy"

_DESCRIPTION = """\
Shows what the proxy does now and what is broken: its workers, its listeners
with their certificates, hosts that are down or nearly full, and its last
failures with what to do about them.
"""
_EPILOG = """\
exit status: 0 new consoles are admitted, 1 they are not, or the proxy refused
it, 2 wrong usage, 3 the proxy cannot be reached
"""
_FAILURES = 5
"""Kinds of failures that are shown."""
_INDENT = 13
_HOSTS = 5
"""Hosts that are named in a line."""
_NEARLY_FULL = 0.8
"""Part of max_connections from which on a host is named."""
_SOON = 30
"""Days before the end of a certificate from which on it is marked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Show the state; return the exit status."""

    def act(client: AdminClient) -> int:
        status = client.call("status")
        if arguments.json:
            admin_client.print_json([status])
        else:
            admin_client.say(*_lines(client, status))
        return admin_client.DONE if status["ready"] else admin_client.REFUSED

    return admin_client.run(arguments, act)


def summary(status: Mapping[str, Any]) -> str:
    """Return one line about all consoles."""
    traffic = f"{size(int(status['rate_up']))}/s up, {size(int(status['rate_down']))}/s down"
    ping = "" if status["round_trip"] is None else f", ping {milliseconds(status['round_trip'])}"
    return f"{count(status['sessions'], 'open console')}, {traffic}{ping}"


def headline(status: Mapping[str, Any]) -> str:
    """Return one line about the proxy that answers."""
    up = age(max(0.0, status["now"] - status["started"]))
    state = "ready" if status["ready"] else f"NOT READY: {'; '.join(status['reasons'])}"
    return f"esxiproxy {status['version']} on {status['machine']}, up {up}, {state}"


def _lines(client: AdminClient, status: Mapping[str, Any]) -> Iterator[str]:
    width = terminal_width()
    yield headline(status)
    yield summary(status)
    if len(status["machines"]) > 1:
        yield f"machines: {', '.join(status['machines'])}"
    if status["drains"]:
        yield f"{count(status['drains'], 'drain')}, see esxiproxy drain"
    yield ""
    found = client.call("list_workers")["workers"]
    workers = [admin_client.ProxyAnswer(worker, now=status["now"]) for worker in found]
    yield from fitted_table(_WORKERS, workers, width)
    yield ""
    yield from fitted_table(_LISTENERS, client.call("list_listeners")["listeners"], width)
    hosts = [*_down(client), *_nearly_full(client)]
    if hosts:
        yield ""
    for line in hosts:
        yield from wrapped(line, 2, width)
    yield from _failures(client, status["now"], width)


def _down(client: AdminClient) -> Iterator[str]:
    page = client.call("list_hosts", filter="health:down", sort="host", order="asc", limit=_HOSTS)
    if page["matching"]:
        names = [host["host"] for host in page["hosts"]]
        yield f"DOWN: {_named(names, page['matching'])}"


def _nearly_full(client: AdminClient) -> Iterator[str]:
    """Yield a line about the hosts that have nearly as many connections as they may have."""
    page = client.call("list_hosts", sort="usage", order="desc", limit=_HOSTS + 1)
    full = [
        f"{host['host']} ({used_of(host)})"
        for host in page["hosts"]
        if host["limit"] and host["connections"] is not None
        if host["connections"] >= _NEARLY_FULL * host["limit"]
    ]
    if full:
        yield f"NEARLY FULL: {', '.join(full[:_HOSTS])}{', ...' if len(full) > _HOSTS else ''}"


def _named(names: Sequence[str], number: int) -> str:
    more = f" and {number - len(names)} more" if number > len(names) else ""
    return f"{', '.join(names)}{more}"


def _failures(client: AdminClient, now: float, width: int | None) -> Iterator[str]:
    """Yield the newest failure of each kind, and once for each error what to do about it.

    A repeated failure would hide all others.
    """
    page = client.call("list_failures", sort="time", order="desc", limit=MAX_PAGE)
    if not page["failures"]:
        return
    yield ""
    yield f"{count(page['total'], 'failure')}, the newest of each kind:"
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for failure in page["failures"]:
        kinds.setdefault((failure["error"], _place(failure)), []).append(failure)
    explained = set()
    for (error, place), failures in list(kinds.items())[:_FAILURES]:
        newest = failures[0]
        ago = age(max(0.0, now - newest["time"]))
        times = f" ({len(failures)})" if len(failures) > 1 else ""
        parts = ", ".join(filter(None, (f"{error}{times}", newest["principal"], place)))
        yield from wrapped(f"{ago:>7} ago  {parts}: {newest['detail']}", _INDENT, width)
        if error not in explained:
            explained.add(error)
            yield from wrapped(f"{'':{_INDENT}}{newest['help']}", _INDENT, width)


def _place(failure: Mapping[str, Any]) -> str:
    """Return the host of a failure, or its listener if it had none yet."""
    return str(failure["host"] or failure["listener"])


def _certificate(listener: Mapping[str, Any]) -> str:
    certificate = listener["certificate"]
    if certificate is None:
        return "-"
    days = certificate["days"]
    if days < 0:
        return "EXPIRED"
    if days == 0:
        return "EXPIRES TODAY"
    return f"EXPIRES IN {count(days, 'DAY').upper()}" if days < _SOON else f"{days} days left"


def _consoles(listener: Mapping[str, Any]) -> str:
    limit = "" if listener["limit"] is None else f" of {listener['limit']}"
    return f"{listener['sessions']}{limit}"


_WORKERS = (
    Column("worker", lambda worker: worker["worker"]),
    Column("machine", lambda worker: worker["machine"], rank=1, least=8),
    Column("pid", lambda worker: str(worker["pid"]), is_number=True),
    Column("generation", lambda worker: str(worker["generation"]), rank=2, usual="0", is_number=True),
    Column("up", lambda worker: age(max(0.0, worker["now"] - worker["started"])), is_number=True),
    Column("consoles", lambda worker: str(worker["sessions"]), is_number=True),
    Column("accepts", lambda worker: "yes" if worker["accepting"] else "no", rank=1, usual="yes"),
    Column("lag", lambda worker: milliseconds(worker["lag"]), rank=3, is_number=True),
)
_LISTENERS = (
    Column("listener", lambda listener: listener["name"], least=8),
    Column("address", lambda listener: listener["address"], rank=1, least=10),
    Column("consoles", _consoles, is_number=True),
    Column("drained", lambda listener: "yes" if listener["drained"] else "no", rank=1, usual="no"),
    Column("certificate", _certificate),
)

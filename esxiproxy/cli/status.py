"""``esxiproxy status``: shows the state of the running proxy in a few lines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.ops.manhole.table import age, count, milliseconds, size, table

NAME = "status"
HELP = "show the state of the running proxy"

_DESCRIPTION = """\
Shows what the proxy does now: its workers, its listeners with their certificates, and
its last failures. The exit status is 1 while it would admit no new console.
"""
_FAILURES = 5
_SOON = 30
"""Days before the end of a certificate from which on it is marked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)


def run(arguments: argparse.Namespace) -> int:
    """Show the state; return the exit status."""

    def act(client: AdminClient) -> int:
        status = client.call("status")
        if arguments.json:
            admin_client.print_json([status])
        else:
            print("\n".join(_text(client, status)))
        return admin_client.DONE if status["ready"] else admin_client.REFUSED

    return admin_client.run(arguments, act)


def summary(status: Mapping[str, Any]) -> str:
    """Return one line about all consoles."""
    traffic = f"{size(int(status['rate_up']))}/s up, {size(int(status['rate_down']))}/s down"
    ping = "" if status["round_trip"] is None else f", round trip {milliseconds(status['round_trip'])}"
    return f"{count(status['sessions'], 'open console')}, {traffic}{ping}"


def _text(client: AdminClient, status: Mapping[str, Any]) -> Iterator[str]:
    up = age(max(0.0, status["now"] - status["started"]))
    yield f"esxiproxy {status['version']} on {status['machine']}, up {up}"
    yield "ready" if status["ready"] else f"not ready: {'; '.join(status['reasons'])}"
    yield summary(status)
    if len(status["machines"]) > 1:
        yield f"machines: {', '.join(status['machines'])}"
    if status["drains"]:
        yield f"{count(status['drains'], 'drain')}: see esxiproxy drain"
    workers = client.call("list_workers")["workers"]
    yield ""
    header = ("worker", "machine", "pid", "generation", "up", "consoles", "accepts", "lag")
    yield table(
        header,
        (
            (
                worker["worker"],
                worker["machine"],
                str(worker["pid"]),
                str(worker["generation"]),
                age(max(0.0, status["now"] - worker["started"])),
                str(worker["sessions"]),
                "yes" if worker["accepting"] else "no",
                milliseconds(worker["lag"]),
            )
            for worker in workers
        ),
    )
    yield ""
    listener_header = ("listener", "address", "consoles", "drained", "certificate")
    yield table(listener_header, map(_listener, client.call("list_listeners")["listeners"]))
    failures = client.call("list_failures", sort="time", order="desc", limit=_FAILURES)
    if failures["failures"]:
        yield ""
        yield f"the last of {count(failures['total'], 'failure')}:"
        for failure in failures["failures"]:
            ago = age(max(0.0, status["now"] - failure["time"]))
            yield table(("",), [(f"{ago} ago  {failure['error']}: {failure['detail']}",)]).strip()


def _listener(listener: Mapping[str, Any]) -> tuple[str, ...]:
    certificate = listener["certificate"]
    if certificate is None:
        text = "-"
    elif certificate["days"] < 0:
        text = "EXPIRED"
    else:
        text = f"{count(certificate['days'], 'day')}{' LEFT' if certificate['days'] < _SOON else ''}"
    limit = "" if listener["limit"] is None else f" of {listener['limit']}"
    return (
        listener["name"],
        listener["address"],
        f"{listener['sessions']}{limit}",
        "yes" if listener["drained"] else "no",
        text,
    )

"""``esxiproxy drain``: lets a listener, a host, an upstream or the proxy take no new consoles."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.quantities import duration
from esxiproxy.core.session.drain import DrainKind
from esxiproxy.ops.manhole.table import age, count, table

NAME = "drain"
HELP = "let a host, an upstream, a listener or the proxy take no new consoles"

_DESCRIPTION = """\
Drains a host or an upstream on all machines that share the state, or a listener or the
whole proxy on one machine, until the proxy ends there. Open consoles go on, unless
--end says when they are closed. Without arguments, what is drained is listed.

  esxiproxy drain host esx1.example.com --reason "memory is replaced" --end 10m
  esxiproxy drain proxy --reason "the machine is updated"
"""
_HEADER = ("what", "name", "machine", "since", "end", "consoles", "by", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    add_subject(parser)
    parser.add_argument("--reason", metavar="TEXT", help="why; required to drain")
    parser.add_argument(
        "--end", type=duration_of, metavar="TIME", help="close the open consoles after this time, as in 10m"
    )


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name what is drained."""
    kinds = [kind.value for kind in DrainKind]
    parser.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=f"one of {', '.join(kinds)}")
    parser.add_argument("name", nargs="?", metavar="NAME", help="its name; the proxy has none")
    parser.add_argument("--machine", metavar="NAME", help="another machine, for a listener or the proxy")


def run(arguments: argparse.Namespace) -> int:
    """Drain, or list what is drained; return the exit status."""
    if arguments.kind is not None and not arguments.reason:
        return admin_client.wrong_usage(arguments, "say why with --reason TEXT")

    def act(client: AdminClient) -> int:
        if arguments.kind is None:
            return _show(client.call("list_drains")["drains"], arguments.json)
        drained = client.call(
            "drain", {**subject_of(arguments), "end_after": arguments.end, "reason": arguments.reason}
        )
        if arguments.json:
            return admin_client.print_json([drained])
        open_ones = count(drained["sessions"], "console")
        later = "go on" if arguments.end is None else f"are closed in {age(arguments.end)}"
        print(f"{described(drained)} takes no new consoles; {open_ones} there {later}")
        return admin_client.DONE

    return admin_client.run(arguments, act)


def subject_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the part of a request that names what is drained."""
    return {"kind": arguments.kind, "name": arguments.name, "machine": arguments.machine}


def described(drain: Mapping[str, Any]) -> str:
    """Return a text such as ``host esx1`` or ``proxy on gate1``."""
    where = f" on {drain['machine']}" if drain["machine"] else ""
    return f"{drain['kind']} {drain['name']}".strip() + where


def duration_of(text: str) -> float:
    """Return the seconds of a duration such as ``10m``."""
    try:
        return duration(text)
    except BadValue as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _show(drains: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        return admin_client.print_json(drains)
    if not drains:
        print("nothing is drained")
        return admin_client.DONE
    now = time.time()
    print(table(_HEADER, (_row(drain, now) for drain in drains)))
    return admin_client.DONE


def _row(drain: Mapping[str, Any], now: float) -> Sequence[str]:
    end = drain["end"]
    return (
        drain["kind"],
        drain["name"] or "-",
        drain["machine"] or "all",
        f"{age(max(0.0, now - drain['since']))} ago",
        "-" if end is None else f"in {age(end - now)}" if end > now else "now",
        str(drain["sessions"]),
        drain["by"],
        drain["reason"],
    )

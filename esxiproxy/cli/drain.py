"""``esxiproxy drain``: lets a listener, a host, an upstream or the proxy take no new consoles."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from esxiproxy.admin.openapi.schemas import MAX_FILTER, MAX_PAGE
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient
from esxiproxy.cli.columns import Column, fitted_table, terminal_width
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.quantities import duration
from esxiproxy.core.session.drain import DrainKind
from esxiproxy.ops.manhole.table import age, count

NAME = "drain"
HELP = "let a host, an upstream, a listener or the proxy take no new consoles"

_DESCRIPTION = """\
Drains a host or an upstream on all machines that share the state, or a listener
or the whole proxy on one machine, until the proxy ends there. Open consoles go
on, unless --end says when they are closed. Without arguments, what is drained
is listed.

  esxiproxy drain host esx1.example.com --reason "memory is replaced" --end 10m
  esxiproxy drain proxy --reason "the machine is updated"
"""
_COLUMNS = (
    Column("what", lambda drain: drain["kind"]),
    Column("name", lambda drain: drain["name"] or "-", least=10),
    Column("machine", lambda drain: drain["machine"] or "all", rank=2, least=7, usual="all"),
    Column("since", lambda drain: f"{age(max(0.0, drain['now'] - drain['since']))} ago", rank=1),
    Column("end", lambda drain: _end(drain)),
    Column("consoles", lambda drain: str(drain["sessions"]), is_number=True),
    Column("by", lambda drain: drain["by"], rank=3, least=8),
    Column("reason", lambda drain: drain["reason"] or "-", least=12),
)
_ARTICLES = {"listener": "a", "upstream": "an", "host": "a"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION)
    add_subject(parser)
    parser.add_argument(
        "--reason", type=admin_client.some_text, metavar="TEXT", help="why; required to drain"
    )
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
    problem = wrong_subject(arguments)
    if problem is None and arguments.kind is None and (arguments.reason or arguments.end is not None):
        problem = "say what is drained, as in: esxiproxy drain host NAME --reason TEXT"
    if problem is None and arguments.kind is not None and arguments.reason is None:
        problem = "say why with --reason TEXT"
    if problem is not None:
        return admin_client.wrong_usage(arguments, problem)

    def act(client: AdminClient) -> int:
        if arguments.kind is None:
            return _show(client.call("list_drains")["drains"], arguments.json)
        drained = client.call(
            "drain", {**subject_of(arguments), "end_after": arguments.end, "reason": arguments.reason}
        )
        if arguments.json:
            return admin_client.print_json([drained])
        admin_client.say(f"{described(drained)} takes no new consoles; {_running(drained, arguments.end)}")
        if not _is_known(client, drained):
            admin_client.say(f"note: no host {drained['name']} is known now: check the spelling")
        return admin_client.DONE

    return admin_client.run(arguments, act)


def wrong_subject(arguments: argparse.Namespace) -> str | None:
    """Return why the arguments name nothing that can be drained, None if they do."""
    kind, name = arguments.kind, arguments.name
    if kind is None:
        return None if arguments.machine is None else "--machine needs a KIND"
    if (kind == DrainKind.PROXY.value) is bool(name):
        return "the proxy has no name" if name else f"{_ARTICLES[kind]} {kind} needs its NAME"
    if arguments.machine is not None and not DrainKind(kind).is_local:
        return f"{_ARTICLES[kind]} {kind} is drained on all machines: leave out --machine"
    return None


def _running(drained: Mapping[str, Any], end: float | None) -> str:
    """Return what happens to the consoles that run there."""
    number = drained["sessions"]
    if not number:
        return "no console is open there"
    verb = "is" if number == 1 else "are"
    later = f"{'goes' if number == 1 else 'go'} on" if end is None else f"{verb} closed in {age(end)}"
    return f"{count(number, 'open console')} there {later}"


def _is_known(client: AdminClient, drained: Mapping[str, Any]) -> bool:
    """Return whether a drain covers something that is known now.  Only the name of a host may be unknown."""
    if drained["kind"] != DrainKind.HOST.value or drained["sessions"]:
        return True
    hosts = client.call("list_hosts", filter=drained["name"][:MAX_FILTER], limit=MAX_PAGE)["hosts"]
    return any(host["drained"] for host in hosts)


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
        admin_client.say("nothing is drained")
        return admin_client.DONE
    now = time.time()
    rows = [admin_client.ProxyAnswer(drain, now=now) for drain in drains]
    admin_client.say(*fitted_table(_COLUMNS, rows, terminal_width()))
    return admin_client.DONE


def _end(drain: Mapping[str, Any]) -> str:
    """Return when running consoles are closed."""
    end, now = drain["end"], drain["now"]
    return "-" if end is None else f"in {age(end - now)}" if end > now else "over"

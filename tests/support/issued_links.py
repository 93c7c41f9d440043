"""Links to the consoles of a running proxy, made and revoked by `esxiproxy link`."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from esxiproxy.cli.main import main
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times
from tests.support import config
from tests.support.links import AUDIENCE, ISSUER
from tests.support.programs import ROOT, TICKET, environment
from tests.support.websocket_peers import Client

PUBLIC_URL = "https://consoles.example.com"
TARGET = f"/ticket/{TICKET}"


@dataclass(frozen=True)
class IssuedLink:
    """A link as the command prints it; `field` is its cookie or its subprotocol, or empty."""

    id: str
    target: str
    field: str
    expires: float


def router(keys: Path, name: str = "issued", **settings: object) -> str:
    """Return the section of a router for links to hosts on loopback addresses, signed with the key `ed`."""
    settings = {"signing_key": "ed", "template": "esxi", "allow": "127.0.0.0/8", **settings}
    return config.router(name, "links", keys=keys, issuer=ISSUER, audience=AUDIENCE, **settings)


def link(file: Path, to: int | str, *options: str, router: str = "issued") -> IssuedLink:
    """Make a link to a host on a port of 127.0.0.1, or to HOST:PORT; its target is the ticket's."""
    host = f"127.0.0.1:{to}" if isinstance(to, int) else to
    found = json.loads(_said(file, router, "--to", f"{host}{TARGET}", "--json", *options))
    fields = [found[name] for name in ("cookie", "subprotocol") if name in found]
    return IssuedLink(found["id"], found["url"].removeprefix(PUBLIC_URL), "".join(fields), found["expires"])


def revoke(file: Path, issued: IssuedLink, router: str = "issued") -> None:
    """Revoke a link, which ends its consoles."""
    _said(file, router, "--revoke", issued.id)


def await_state(port: int) -> None:
    """Wait until a proxy has opened its state: a link that is older than the state is refused."""
    with Client(port) as client:
        assert client.ask("/c/nothing", ["binary"]).status == 404


def _said(file: Path, router: str, *arguments: str) -> str:
    """Return what the command prints; it runs in this process, which takes half a second less."""
    with redirect_stdout(StringIO()) as said:
        status = main(["link", "--config", str(file), "--router", router, *arguments])
    assert status == 0, said.getvalue()
    return said.getvalue()


def run(file: Path, router: str, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run `esxiproxy link` as a process, and return its output."""
    return subprocess.run(
        [Path(sys.executable).parent / "esxiproxy", "link", "--config", file, "--router", router, *arguments],
        input=typed,
        text=True,
        capture_output=True,
        timeout=60,
        cwd=file.parent,
        env=environment(PYTHONPATH=str(ROOT)),
        check=False,
    )


def kill(state: Path, issued: IssuedLink, reason: str = "maintenance") -> None:
    """End the consoles of a link in all processes, as an operator does."""
    selector = Selector(SelectorKind.LINK, issued.id)
    with closing(SqliteStore(state, "operator", Times.of_this_machine())) as store:
        store.tell(Command(CommandKind.KILL, reason=reason, selector=selector))

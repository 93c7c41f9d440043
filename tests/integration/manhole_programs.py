"""Proxies with a manhole and an operator, and the command `esxiproxy manhole`."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.application.service import Service

from tests.integration.test_manhole import Operator
from tests.support.crowd import Crew, echoes, let_go, opened
from tests.support.probe import Offering
from tests.support.programs import ROOT, Proxy, environment, until
from tests.support.websocket_peers import Client

Text = Callable[..., str]


PROMPT = r"esxiproxy> "
PID = "import os; print('PID', os.getpid())\r"


class Idle(Service):
    """A plugin of `services` that does nothing."""

    def __init__(self, config: object, reactor: object) -> None:
        """Take what a service is made of."""


class Serving(Offering, Crew):
    """Workers with the plugin."""

    plugins = {"esxiproxy.services": {"idle": f"{__name__}:Idle"}}


@contextlib.contextmanager
def running(
    content: str, operator: Operator, consoles: int = 8, kind: type[Proxy] = Crew
) -> Iterator[tuple[Crew, list[Client]]]:
    """Run a proxy with consoles, and a manhole for the operator."""
    proxy = kind(content)
    assert isinstance(proxy, Crew)
    (proxy.folder / "authorized_keys").write_text(operator.public)
    (proxy.folder / "authorized_keys").chmod(0o600)
    with proxy as crew:
        until(lambda: "manhole listening on" in crew.log().rpartition("all workers")[2], "the manhole")
        found = re.search(r"manhole listening on 127\.0\.0\.1:(\d+)", crew.log())
        assert found
        crew.ports["manhole"] = int(found[1])
        clients = opened(crew.ports["one"], consoles)
        yield crew, clients
        assert all(map(echoes, clients)), "no shell has disturbed a console"
        let_go(clients)


def command(crew: Crew, *options: str) -> list[str | Path]:
    """Return the command line of `esxiproxy manhole`."""
    program = Path(sys.executable).parent / "esxiproxy"
    return [sys.executable, "-P", program, "manhole", "--socket", crew.folder / "admin.sock", *options]


def piped(crew: Crew, typed: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `esxiproxy manhole` in a pipe, and return its output."""
    return subprocess.run(
        [str(part) for part in command(crew, *options)],
        input=typed,
        text=True,
        capture_output=True,
        timeout=40,
        check=False,
        env=environment(PYTHONPATH=str(ROOT)),
    )


def listed(said: str) -> dict[str, str]:
    """Return the workers of the sessions in a list, by the id of the session."""
    return dict(re.findall(r"^([0-9a-f]{16}) +(\d+|\?) ", said, re.MULTILINE))


def rows(crew: Crew) -> dict[str, str]:
    return listed(piped(crew, "sessions()\n").stdout)


def shells(crew: Crew) -> list[str]:
    """Return the private sockets of the workers."""
    return sorted(path.name for path in crew.folder.glob("esxiproxy-*/shells/*"))

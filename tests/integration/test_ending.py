"""The end of the process while something in it hangs: it comes in time, and with status 0."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from tests.support import config
from tests.support.crowd import LINE, Crew, let_go
from tests.support.probe import offer
from tests.support.programs import ROOT, until
from tests.support.websocket import handshake_fields
from tests.support.websocket_peers import Client

HANGS = """
import socket, sys, time

def getaddrinfo(host, *arguments, ask=socket.getaddrinfo, **options):
    if host != "host.invalid":
        return ask(host, *arguments, **options)
    print("looking up", file=sys.stderr, flush=True)
    time.sleep(300)

socket.getaddrinfo = getaddrinfo
"""

each_number_of_workers = pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])


class Ending(Crew):
    """esxiproxy in one process or several, and how it ends."""

    def __init__(self, workers: int, drain: str, more: str = "") -> None:
        upstream = config.upstream("ws://host.invalid:9")
        keys = {"workers": workers, "drain_timeout": drain, "close_timeout": "1s"}
        super().__init__(config.ini(config.listener(), upstream, more=more, **keys))
        self._workers = workers
        self.pidfile = self.folder / "run.pid"

    def command(self) -> Sequence[str | Path]:
        twistd, *options = super().command()
        options[options.index("--pidfile=")] = f"--pidfile={self.pidfile}"
        return ["env", f"PYTHONPATH={self.folder}:{ROOT}", twistd, *options]

    def is_ready(self) -> bool:
        return super().is_ready() if self._workers > 1 else super(Crew, self).is_ready()

    def ended(self, seconds: float) -> None:
        """Check that the proxy has ended within this time with the right status."""
        assert self._process is not None and self._process.wait(seconds) == 0
        assert "Server Shut Down" in self.log() and not self.pidfile.exists()
        self.assert_clean()


class Hanging(Ending):
    """A proxy whose name server never answers."""

    def __init__(self, workers: int, drain: str) -> None:
        super().__init__(workers, drain)
        (self.folder / "sitecustomize.py").write_text(HANGS)

    def asked(self) -> list[Client]:
        """Open clients whose upstream is being looked up."""
        clients = [Client(self.ports["one"]) for _ in range(25)]
        for client in clients:
            client.send_request(LINE, handshake_fields(["binary"]))
        until(lambda: "looking up" in self.log(), "a thread looks up the name")
        return clients


@each_number_of_workers
def test_a_drain_waits_for_no_name(workers: int) -> None:
    """The drain takes the configured time, although name look-ups run or wait for a thread."""
    with Hanging(workers, "1s") as crew:
        clients = crew.asked()
        os.kill(crew.pid, signal.SIGTERM)
        crew.ended(8)
        let_go(clients)


@each_number_of_workers
def test_a_second_sigterm_waits_for_no_name(workers: int) -> None:
    """At once is at once."""
    with Hanging(workers, "5m") as crew:
        clients = crew.asked()
        os.kill(crew.pid, signal.SIGTERM)
        until(lambda: "once more ends it at once" in crew.log(), "it drains")
        os.kill(crew.pid, signal.SIGTERM)
        crew.ended(5)
        let_go(clients)


class Stuck(Service):
    """A plugin that never stops."""

    def __init__(self, _config: object, _reactor: object) -> None:
        """Take no arguments, as a service of the configuration is made."""

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred()


def test_a_plugin_that_never_stops_does_not_keep_the_process() -> None:
    """The process waits for the drain and a little longer, and the log has the name of the plugin."""
    crew = Ending(1, "100ms", "services = stuck")
    offer(crew.folder, {"esxiproxy.services": {"stuck": f"{__name__}:Stuck"}})
    with crew:
        os.kill(crew.pid, signal.SIGTERM)
        crew.ended(12)
        assert re.search(r"#error. timed out waiting for <\S+Stuck object", crew.log()), crew.log()

"""Each example serves a console of a simulated host, and ends in order on a signal."""

from __future__ import annotations

import os
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.programs import ROOT, Program, until
from tests.support.sim_program import Host, start, stop
from tests.support.websocket import BINARY, CLOSE
from tests.support.websocket_peers import Client

EXAMPLES = ROOT / "examples"


@pytest.fixture
def host() -> Iterator[Host]:
    running = start()
    yield running
    stop(running)


class OwnRouter(Program):
    """`examples/own_router.py` with one machine, vm1."""

    name = "own_router"
    port = 0

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._console = f"vm1=ws://127.0.0.1:{host.port}{host.target()}"

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, EXAMPLES / "own_router.py", "--port", "0", self._console]

    def is_ready(self) -> bool:
        found = re.search(r"consoles on port (\d+)", self.log())
        self.port = int(found[1]) if found else 0
        return bool(found)


class InsideWeb(Program):
    """`examples/inside_web.py` under twistd."""

    name = "inside_web"
    port = pages = 0

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._environment = {
            "ESXI": f"127.0.0.1:{host.tls_port}",
            "PIN": f"sha256:{host.ready['sha256']}",
            "PAGES": "0",
            "CONSOLES": "0",
        }

    def command(self) -> Sequence[str | Path]:
        twistd = Path(sys.executable).parent / "twistd"
        settings = [f"{name}={value}" for name, value in self._environment.items()]
        return ["env", *settings, twistd, "-n", "--pidfile=", "--python", EXAMPLES / "inside_web.py"]

    def is_ready(self) -> bool:
        ports = dict(re.findall(r"(ListenerFactory|Site) starting on (\d+)", self.log()))
        self.port, self.pages = int(ports.get("ListenerFactory", 0)), int(ports.get("Site", 0))
        return bool(self.port and self.pages)

    def page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.pages}/", timeout=20) as answer:
            return str(answer.read().decode())


def greeted(client: Client) -> None:
    """Check that the console sends its greeting, and echoes."""
    assert client.recv_frame().payload == b"RFB 003.008\n"
    client.send_frame(BINARY, b"RFB 003.008\n")
    assert client.recv_frame().opcode == BINARY


def drained(program: Program, client: Client) -> int:
    """Stop an example, check that its open console continues and no new one opens, and return its status."""
    os.kill(program.pid, signal.SIGTERM)
    until(lambda: "SIGTERM" in program.log(), "it was told")
    client.send_frame(BINARY, b"\x01")  # RFB's security type: none
    while client.recv_frame().payload != b"\0\0\0\0":
        pass
    client.send_close(1000)
    while client.recv_frame().opcode != CLOSE:
        pass
    client.recv_eof()
    assert program._process is not None
    return program._process.wait(20)


def test_a_router_of_ones_own(host: Host) -> None:
    with OwnRouter(host) as program:
        assert Client(program.port).ask("/vm/vm2").status == 404
        client = Client(program.port)
        client.open("/vm/vm1", ["binary"])
        greeted(client)
        assert drained(program, client) == 0
        assert "Traceback" not in program.log()


def test_inside_a_web_application(host: Host) -> None:
    with InsideWeb(host) as program:
        assert program.page() == "consoles: 0 open, 0 ended, 0 refused\n"
        target = host.target()
        client = Client(program.port)
        client.open(target, ["binary"])
        greeted(client)
        assert program.page() == "consoles: 1 open, 0 ended, 0 refused\n"
        assert Client(program.port).ask(target, ["binary"]).status >= 400
        until(lambda: program.page() == "consoles: 1 open, 0 ended, 1 refused\n", "the refusal is counted")
        # twistd ends by the signal that it got, once everything has stopped.
        assert drained(program, client) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert "Traceback" not in program.log() and "Main loop terminated" in program.log()
        assert target.rpartition("/")[2] not in program.log()

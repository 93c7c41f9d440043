"""The clock of the machine is set while consoles are open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import config
from tests.support.crowd import Crew
from tests.support.programs import ROOT, TICKET, Proxy
from tests.support.scripts import echo
from tests.support.websocket import BINARY, PING, PONG
from tests.support.websocket_peers import Client, ScriptedUpstream

STEPPED = """
import os, time
_time = time.time

def stepped():
    try:
        with open(os.environ["CLOCK_STEP"]) as file:
            return _time() + float(file.read())
    except (OSError, ValueError):
        return _time()

time.time = stepped
"""


KEYS = {"ping_interval": "200ms", "ping_timeout": "30m", "idle_timeout": "30m"}


class Stepped(Proxy):
    """esxiproxy in a process whose time of day the test sets."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._step = Path(self.folder / "step")
        self.folder.joinpath("sitecustomize.py").write_text(STEPPED)

    def command(self) -> Sequence[str | Path]:
        return ["env", f"CLOCK_STEP={self._step}", f"PYTHONPATH={ROOT}:{self.folder}", *super().command()]

    def step(self, seconds: float) -> None:
        """Set the clock so far from the right time."""
        late = self._step.with_suffix(".new")
        late.write_text(str(seconds))
        os.rename(late, self._step)


class SteppedCrew(Stepped, Crew):
    """The same with several workers."""


@pytest.fixture(params=["one process", "workers"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Stepped]:
    """Run a proxy as one process, or as a master with workers."""
    several = request.param == "workers"
    with ScriptedUpstream(echo()) as upstream:
        text = config.ini(
            config.listener(**KEYS), config.upstream(upstream.port), workers=2 if several else 1
        )
        with SteppedCrew(text) if several else Stepped(text) as proxy:
            yield proxy


def pinged(client: Client, count: int) -> None:
    """Answer so many pings, the next of which comes from a timer that is armed later."""
    for _ in range(count):
        frame = client.recv_frame()
        assert frame.opcode == PING, frame
        client.send_frame(PONG, frame.payload)


def echoes(client: Client) -> bool:
    """Return whether a message is echoed, and skip the pings in front of it."""
    client.send_frame(BINARY, b"still here")
    while (frame := client.recv_frame()).opcode == PING:
        client.send_frame(PONG, frame.payload)
    return frame.payload == b"still here"


def test_pings_deadlines_and_leases_do_not_see_it(proxy: Stepped) -> None:
    """The clock is set back and forward by a day.

    Pings keep their interval, and no deadline or lease ends.
    """
    for step in (-86400.0, 86400.0):
        with Client(proxy.ports["one"]) as client:
            client.open(f"/ticket/{TICKET}")
            pinged(client, 2)
            proxy.step(step)
            pinged(client, 5)
            assert echoes(client)
            with Client(proxy.ports["one"]) as another:
                another.open(f"/ticket/{TICKET}")
                pinged(another, 2)
                assert echoes(another)
        proxy.step(0)
    log = proxy.log()
    assert "WorkerLost" not in log and "IdleTimeout" not in log, log
    assert not re.search(r"was blocked for \d{4}", log), log

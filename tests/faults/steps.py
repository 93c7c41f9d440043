"""Steps of the tests of mishaps: a configuration, consoles, and sentences of the log."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.acts import TARGET
from tests.support import config
from tests.support.programs import Proxy, accepts, until
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, ScriptedUpstream

REASON = "the proxy is shutting down"


def text(upstream: ScriptedUpstream, **keys: object) -> str:
    """Return the configuration of a listener in front of a host; the keywords are keys of [proxy]."""
    return config.ini(
        config.listener(http="forward"),
        config.upstream(upstream.port),
        **{"services": "probe", "access_log": "access.log", "close_timeout": "1s", **keys},
    )


def opened(proxy: Proxy) -> Client:
    """Open a console."""
    client = Client(proxy.ports["one"])
    client.open(TARGET, ["binary"])
    return client


def echoes(client: Client) -> None:
    client.send_frame(BINARY, b"a key")
    assert client.recv_frame().payload == b"a key"


def closes(client: Client) -> None:
    with client:
        client.send_close(1000)
        assert client.recv_close() == (1000, "")


def carries(proxy: Proxy, times: int = 1) -> None:
    """Open so many consoles one after another, echo a key and close them."""
    for _ in range(times):
        client = opened(proxy)
        echoes(client)
        closes(client)


def drains(proxy: Proxy) -> None:
    """Let the proxy drain: it takes no more consoles."""
    os.kill(proxy.pid, signal.SIGTERM)
    until(lambda: not accepts(proxy.ports["one"]), "the port is closed")


def ended(proxy: Proxy, seconds: float = 15.0) -> None:
    """Wait until the process has exited."""
    status = Path(f"/proc/{proxy.pid}/status")
    until(lambda: not status.exists() or "State:\tZ" in status.read_text(), "the process ends", seconds)


def sentence(proxy: Proxy, *words: str) -> str:
    """Return the first line of the log with all of these words."""
    return until(
        lambda: next(
            (line for line in proxy.log().splitlines() if all(word in line for word in words)), None
        ),
        f"a line with {words}",
    )

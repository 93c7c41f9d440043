"""The signs of life of a single process: no child, its watchdog, and its log of a blocked event loop."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Service

from tests.support import config
from tests.support.crowd import Crew, EchoUpstream, Notified, let_go, opened
from tests.support.probe import Offering
from tests.support.programs import Proxy, until

WATCHDOG = 1.0
STALL = 0.4


def test_one_worker_is_one_process(upstream: EchoUpstream) -> None:
    """With `workers = 1` the proxy starts no other process."""
    with Proxy(config.ini(config.listener(), config.upstream(upstream.port), workers=1)) as proxy:
        clients = opened(proxy.ports["one"], 4)
        assert not [path for path in Path(f"/proc/{proxy.pid}/task").glob("*/children") if path.read_text()]
        let_go(clients)


@pytest.mark.parametrize(("workers", "kind"), [(1, Proxy), (2, Crew)], ids=["one process", "two workers"])
def test_the_watchdog_is_notified_while_the_loop_runs(
    workers: int, kind: type[Proxy], upstream: EchoUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`WATCHDOG=1` comes twice in the time that systemd has set, from the process that it has started."""
    monkeypatch.setenv("WATCHDOG_USEC", f"{WATCHDOG * 1e6:.0f}")
    text = config.ini(config.listener(), config.upstream(upstream.port), workers=workers)
    with Notified(monkeypatch) as notified, kind(text) as proxy:
        assert "READY=1" in notified.next()
        begun = time.monotonic()
        assert [notified.next() for _ in range(4)] == ["WATCHDOG=1"] * 4
        assert time.monotonic() - begun < 4 * WATCHDOG
        assert proxy.stop() == 0


class Blocking(Service):
    """A plugin that keeps the loop for itself, once."""

    def __init__(self, _config: object, reactor: Any) -> None:
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        self._reactor.callLater(0.2, time.sleep, STALL)


class Blocked(Offering):
    """A proxy with the plugin."""

    plugins = {"esxiproxy.services": {"blocking": f"{__name__}:Blocking"}}


def test_a_loop_that_stood_still_is_in_the_log(upstream: EchoUpstream) -> None:
    """The log has the duration of the block, and consoles get no bytes during it."""
    with Blocked(
        config.ini(config.listener(), config.upstream(upstream.port), workers=1, services="blocking")
    ) as proxy:

        def told() -> bool:
            found = re.findall(r"#warn. the event loop was blocked for .*, the longest (\S+) s", proxy.log())
            return any(STALL <= float(seconds) < 10 * STALL for seconds in found)

        until(told, "the stall is in the log")

"""One of two proxies behind HAProxy is drained and replaced while consoles run, as documented.

`ESXIPROXY_LONG=1` runs 200 consoles and two workers instead of 20 and one process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import config
from tests.support.arrivals import Arrivals, Checked
from tests.support.crowd import TARGET, Crew, EchoUpstream, Single, let_go, opened
from tests.support.haproxy import HAProxy
from tests.support.programs import free_ports, until
from tests.support.redis_server import RedisServer
from tests.support.websocket_peers import Client

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
CONSOLES, WORKERS = (200, 2) if LONG else (20, 1)
DRAIN = 3.0
NAMES = ("proxy-a", "proxy-b")
Places = dict[str, str]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def proxy(text: str) -> Crew:
    """Return a proxy with this configuration that is not started."""
    return Crew(text) if WORKERS > 1 else Single(text)


def places(shown_by: Crew) -> Places:
    """Return the machine of each console by the address of its client, as one of the proxies shows them."""
    status, text = shown_by.ask("GET", "/api/v1/sessions?limit=500")
    assert status == 200, text
    return {row["client"]: row["machine"] for row in json.loads(text)["sessions"]}


def is_admitted(port: int) -> bool:
    """Return whether a console can be opened, and end it at once."""
    with Client(port) as client:
        return client.ask(TARGET, ["binary"]).status == 101


def drain(one: Crew) -> None:
    """Drain a proxy as an operator does."""
    body = {"kind": "proxy", "reason": "a test"}
    status, text = one.ask("POST", "/api/v1/drain", body)
    assert status == 200, text


def addresses(clients: list[Client]) -> list[str]:
    """Return the addresses of clients as they are at HAProxy."""
    return ["{}:{}".format(*client.stream.getsockname()) for client in clients]


def on(shown_by: Crew, machine: str) -> set[str]:
    """Return the addresses of the clients that one machine serves."""
    return {client for client, where in places(shown_by).items() if where == machine}


@pytest.mark.timeout(180)
def test_one_of_two_proxies_is_drained_and_replaced(redis: RedisServer, upstream: EchoUpstream) -> None:
    numbers = iter(free_ports(4))
    ports = {name: (next(numbers), next(numbers)) for name in NAMES}

    def text(name: str) -> str:
        listen, probes = ports[name]
        return config.ini(
            config.listener(
                listen=f"127.0.0.1:{listen}",
                proxy_protocol=True,
                trusted_proxies="127.0.0.1",
                ping_interval="off",
            ),
            config.upstream(upstream.port),
            f"[admin]\nprobe_listen = 127.0.0.1:{probes}\n",
            machine=name,
            state=f"redis://127.0.0.1:{redis.port}",
            workers=WORKERS,
            drain_timeout=f"{DRAIN:g}s",
            close_timeout="1s",
            max_connections="off",
            max_sessions_per_console="off",
        )

    with contextlib.ExitStack() as stack:
        old, other = (stack.enter_context(proxy(text(name))) for name in NAMES)
        balancer = stack.enter_context(HAProxy(ports))
        port = balancer.port
        until(lambda: is_admitted(port), "a new Redis admits consoles")
        clients = opened(port, CONSOLES)
        theirs = addresses(clients)
        until(lambda: set(theirs) <= places(other).keys(), "all are listed with their own addresses")
        doomed = [place for place, address in enumerate(theirs) if address in on(other, "proxy-a")]
        assert abs(len(doomed) - CONSOLES / 2) <= 2 and places(old).keys() >= set(theirs)

        arrivals = Arrivals(port)
        with Checked(clients) as checked:
            with arrivals.running():
                until(lambda: arrivals.opened > 20, "consoles arrive")
                assert balancer.tell("set server proxies/proxy-a state drain").strip() == ""
                lasting = {theirs[place] for place in doomed}
                until(lambda: on(other, "proxy-a") == lasting, "the old one gets no new consoles")
                os.kill(old.pid, signal.SIGTERM)
                begun = time.monotonic()
                assert old._process is not None and old._process.wait(DRAIN + 10) == 0
                until(lambda: len(checked.lost) >= len(doomed), "its consoles have ended")
                assert sorted(checked.lost) == doomed
                assert min(checked.lost.values()) - begun >= DRAIN
                new = stack.enter_context(proxy(text("proxy-a")))
                until(lambda: balancer.state_of("proxy-a") == "DRAIN", "it is there again")
                assert balancer.tell("set server proxies/proxy-a state ready").strip() == ""
                until(lambda: on(other, "proxy-a"), "the new one gets consoles")
            assert arrivals.refused == [] and arrivals.opened > 100
            assert balancer.state_of("proxy-a") == "UP"

            # Without a word to HAProxy, whose health check finds it:
            drain(other)
            until(lambda: balancer.state_of("proxy-b") == "DOWN", "HAProxy finds that the other is drained")
            late = opened(port, 4)
            until(lambda: set(addresses(late)) <= on(new, "proxy-a"), "all new consoles are on the new one")
            count = checked.messages
            until(lambda: checked.messages > count + CONSOLES, "the others go on")
            assert sorted(checked.lost) == doomed
        let_go([*clients, *late])
        for each in (old, other, new):
            each.assert_clean()

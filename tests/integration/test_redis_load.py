"""Redis hangs, is emptied or fails over, while consoles run and a stream of new ones arrives at two proxies.

`ESXIPROXY_LONG=1` makes it 200 consoles instead of 20, and an outage of 20 s instead of 3.  That is
longer than the leases.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import config
from tests.support.crowd import EchoUpstream, echoes, let_go
from tests.support.programs import Proxy, until
from tests.support.redis_sentinels import SERVICE, ReplicatedRedis
from tests.support.redis_server import RedisServer
from tests.support.websocket_peers import Client

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
HELD = 200 if LONG else 20
"""Consoles that stay open all the time."""
OUTAGE = 20.0 if LONG else 3.0
SPARE = 3
"""Consoles that the limit admits besides."""
STREAMS = 4
"""Streams at each proxy, each of which opens one console after another."""
LONGEST_WAIT = 3.0


class Streams:
    """Clients that open, use and end consoles, and count those that they have at a moment."""

    def __init__(self, ports: list[int]) -> None:
        self.admitted: list[float] = []
        self.refused: list[float] = []
        self.waits: list[float] = []
        self.most = 0
        """The maximum number of consoles that were open at a moment."""
        self.failures: list[str] = []
        self._open = 0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(port,)) for port in ports for _ in range(STREAMS)
        ]

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, port: int) -> None:
        while not self._ending.wait(0.05):
            try:
                self._once(port)
            except (AssertionError, OSError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _once(self, port: int) -> None:
        client = Client(port, timeout=20)
        try:
            asked = time.monotonic()
            status = client.ask().status
            answered = time.monotonic()
            self.waits.append(answered - asked)
            if status != 101:
                assert status == 503, status
                self.refused.append(answered)
                return
            self.admitted.append(answered)
            with self._lock:
                self._open += 1
                self.most = max(self.most, self._open)
            assert echoes(client)
            self._ending.wait(0.05)
            with self._lock:  # before its end, since its slot may be taken from then on
                self._open -= 1
        finally:
            client.drop()

    def flow(self) -> None:
        """Wait for the first consoles."""
        until(lambda: len(self.admitted) > 20, "consoles of the streams")

    def flow_again(self, since: float) -> bool:
        """Return whether consoles are admitted again, some of them a second after this moment."""
        return any(answered > since for answered in self.admitted[-20:]) and self.admitted[-1] > since + 1


class Scene:
    """Two proxies with their consoles, at a host that takes a few more."""

    def __init__(self, proxies: list[Proxy], host: EchoUpstream) -> None:
        self.proxies = proxies
        self.host = host
        self.ports = [proxy.ports["one"] for proxy in proxies]
        self.consoles: list[Client] = []

    def hold(self) -> None:
        """Open the consoles that stay."""
        for number in range(HELD):
            self.consoles.append(until(lambda at=number: self.asked(self.ports[at % 2]), "a console"))

    def asked(self, port: int) -> Client | None:
        """Return a console, or None for a 503."""
        client = Client(port, timeout=20)
        status = client.ask().status
        if status == 101:
            return client
        client.drop()
        assert status == 503, status
        return None

    def check(self, streams: Streams, most: int = SPARE) -> None:
        """Check the consoles and the streams after an outage, and that the limit is exact.

        ``most`` is the number of consoles that the streams may have had at a moment.
        """
        assert streams.failures == []
        assert max(streams.waits) < LONGEST_WAIT
        assert streams.most <= most, "the limit was exceeded"
        assert all(echoes(client) for client in self.consoles), "a console was lost"
        until(lambda: self.host.open == HELD, "the end of all consoles of the streams")
        more = [
            until(lambda at=number: self.asked(self.ports[at % 2]), "a console") for number in range(SPARE)
        ]
        assert [self.asked(port) for port in self.ports * 2] == [None] * 4
        assert self.host.open == HELD + SPARE
        let_go(more)
        for proxy in self.proxies:
            proxy.assert_clean()


@contextmanager
def scene(**keys: object) -> Iterator[Scene]:
    """Start the proxies with these keys of [proxy]."""
    with EchoUpstream() as host:
        text = config.ini(
            config.listener(),
            config.upstream(f"ws://127.0.0.1:{host.port}"),
            max_connections=HELD + SPARE,
            ping_interval="off",  # the first frame that a held console reads is its echo
            **keys,
        )
        with Proxy(text) as one, Proxy(text) as other:
            running = Scene([one, other], host)
            try:
                running.hold()
                yield running
            finally:
                let_go(running.consoles)


def hung(redis: RedisServer, streams: Streams) -> float:
    """Let a server hang for a time while consoles come, and return when that began."""
    streams.flow()
    redis.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() > stopped + OUTAGE, "the end of the outage", OUTAGE + 5)
    redis.process.send_signal(signal.SIGCONT)
    return stopped


def test_redis_hangs_and_is_emptied(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    try:
        with scene(state=f"redis://127.0.0.1:{redis.port}") as running:
            with Streams(running.ports) as streams:
                stopped = hung(redis, streams)
                assert not any(stopped + 2.5 < answered < stopped + OUTAGE for answered in streams.admitted)
                until(lambda: streams.flow_again(stopped + OUTAGE), "consoles again")
            running.check(streams)
            with Streams(running.ports) as streams:
                streams.flow()
                redis.stop()
                redis.start()
                emptied = time.monotonic()
                until(lambda: streams.flow_again(emptied), "consoles again")
                again = next(answered for answered in streams.admitted if answered > emptied + 0.5)
                assert again - emptied > 1.5, "for 2 s all register"
            running.check(streams)
    finally:
        redis.process.send_signal(signal.SIGCONT)
        redis.stop()


@pytest.mark.full
@pytest.mark.skipif(not LONG, reason="takes a minute: ESXIPROXY_LONG=1")
def test_consoles_are_admitted_while_redis_hangs(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    try:
        with scene(state=f"redis://127.0.0.1:{redis.port}", state_down="admit") as running:
            with Streams(running.ports) as streams:
                stopped = hung(redis, streams)
                meanwhile = [at for at in streams.admitted if stopped + LONGEST_WAIT < at < stopped + OUTAGE]
                assert len(meanwhile) > 50 and max(meanwhile) > stopped + OUTAGE - 1
                assert all(at < stopped + LONGEST_WAIT for at in streams.refused if at > stopped)
                until(lambda: streams.flow_again(stopped + OUTAGE), "consoles again")
            running.check(streams, most=2 * STREAMS)
    finally:
        redis.process.send_signal(signal.SIGCONT)
        redis.stop()


def test_sentinel_makes_a_replica_the_primary(tmp_path: Path) -> None:
    redis = ReplicatedRedis(tmp_path)
    try:
        with (
            scene(
                state=f"redis+sentinel://127.0.0.1:{redis.sentinel.port}/{SERVICE}",
                state_password_file=redis.password_file,
                state_sentinel_password_file=redis.sentinel_password_file,
            ) as running,
            Streams(running.ports) as streams,
        ):
            streams.flow()
            first = redis.primary
            first.stop()
            until(lambda: redis.primary is not first, "another primary", 30)
            moved = time.monotonic()
            until(lambda: streams.flow_again(moved), "consoles again", 30)
            streams.__exit__()
            running.check(streams)
            assert all("restarted or replaced by another one" in proxy.log() for proxy in running.proxies)
    finally:
        redis.stop()

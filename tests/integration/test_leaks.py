"""The leak gate: nothing is left of thousands of sessions that ended in every way.

`ESXIPROXY_LONG=1` runs 50,000 of them, half of which end in order, and measures the memory as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.support import config
from tests.support.certificates import Certificate
from tests.support.listeners import Upstreams, three_listeners
from tests.support.probe import ProbedProxy
from tests.support.programs import dead_port
from tests.support.ways import ABRUPT, CLEAN, Upstream, Way, end

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
SESSIONS, MANY = 2_000, 50_000
WARMING = 10_000
"""Sessions, of the many, after which the memory is what it will be."""
AT_ONCE = 96
SLACK = 1.02
"""Memory may be so much more than after the warm-up."""
CLEANUP_TIMEOUT = 20.0
"""Seconds that the last sessions get: `close_timeout` and more."""
CHANGING = frozenset({"garbage", "spent timers", "threads"})
"""Not looked at: cancelled timers stay in the reactor's heap for a while, its threads for good."""
KEPT = {"FailureReport": 1000}
"""What is kept of ended sessions, and how many: the newest failures, for the admin service."""


@dataclass
class Scene:
    """The proxy, the upstreams, and the objects of the process without clients."""

    proxy: ProbedProxy
    upstream: Upstream
    rng: random.Random
    before: dict[str, int]
    descriptors: int = 0

    async def sessions(self, ways: list[tuple[str, Way, str]]) -> list[str]:
        """Run sessions to their ends, so many at once, and return the problems."""
        waiting, problems = iter(ways), list[str]()

        async def some() -> None:
            for name, way, listener in waiting:
                problem = await end(name, way, self.proxy.ports[listener], listener == "three")
                if problem is not None:
                    problems.append(f"{listener}: {problem}")

        async with asyncio.TaskGroup() as crowd:
            for _ in range(AT_ONCE):
                crowd.create_task(some())
        return problems + self.upstream.problems

    def some(self, count: int, abruptly: float) -> list[tuple[str, Way, str]]:
        """Return so many ways in random order, of which this part ends abruptly."""
        turns = {
            kind: [(name, way, listener) for name, way in ways.items() for listener in way.listeners]
            for kind, ways in (("clean", CLEAN), ("abrupt", ABRUPT))
        }
        kinds = self.rng.choices(["abrupt", "clean"], [abruptly, 1 - abruptly], k=count)
        found = [turns[kind][number % len(turns[kind])] for number, kind in enumerate(kinds)]
        self.rng.shuffle(found)
        return found

    def inside(self) -> dict[str, int]:
        """Return the numbers of objects in the process that must not change."""
        return {name: count for name, count in self.proxy.inside().items() if name not in CHANGING}

    def left(self) -> dict[str, int]:
        """Return by how much the numbers of objects and connections have changed."""
        now = self.inside() | {"open connections": self.proxy.connections()}
        names = now.keys() | self.before.keys()
        different = {name: now.get(name, 0) - self.before.get(name, 0) for name in names}
        kept = {name for name, most in KEPT.items() if now.get(name, 0) <= most}
        return {name: count for name, count in different.items() if count and name not in kept}

    async def settled(self) -> dict[str, int]:
        """Return the leftovers once the last sessions have had their time."""
        deadline = asyncio.get_running_loop().time() + CLEANUP_TIMEOUT
        while (left := self.left()) or self.upstream.talks or self.proxy.descriptors() > self.descriptors:
            if asyncio.get_running_loop().time() > deadline:
                left["open at the upstream"] = len(self.upstream.talks)
                left["descriptors"] = self.proxy.descriptors() - self.descriptors
                return left
            await asyncio.sleep(0.1)
        return {}


@contextlib.asynccontextmanager
async def scene(shown: Certificate, own: Certificate) -> AsyncIterator[Scene]:
    """Start all processes, and run the first sessions, whose permanent objects are not counted."""
    upstream = Upstream()
    async with upstream.listening(shown.server_context()) as ports:
        with dead_port() as nobody:
            text = three_listeners(
                Upstreams(ports["plain"], ports["secure"], shown, nobody),
                own,
                config.listener("half", "half", http="forward"),
                config.upstream(f"wss://127.0.0.1:{ports['half']}", "half", verify="none"),
                http="forward",
                services="probe",
                max_connections="off",
                head_timeout="3s",
                tls_handshake_timeout="3s",
                upstream_handshake_timeout="5s",
                keepalive_timeout="2s",
                response_timeout="2s",
            )
            with ProbedProxy(text) as proxy:
                scene = Scene(proxy, upstream, random.Random(6), {})
                everything = [
                    (name, way, listener)
                    for name, way in (CLEAN | ABRUPT).items()
                    for listener in way.listeners
                ]
                assert await scene.sessions(everything) == []
                while proxy.connections() or upstream.talks:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(2)
                scene.before, scene.descriptors = scene.inside(), proxy.descriptors()
                yield scene
                log = proxy.log()
            assert "Traceback" not in log and "Unhandled" not in log and " Internal: " not in log


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Silence asyncio, which logs every connection that was reset."""
    before = logging.getLogger("asyncio").level
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("asyncio").setLevel(before)


def test_nothing_is_left_of_sessions_that_end_in_every_way(
    upstream_certificate: Certificate, listener_certificate: Certificate
) -> None:
    """No descriptor, connection, session, timer, Deferred or coroutine is left, and there is no traceback."""

    async def run() -> None:
        async with scene(upstream_certificate, listener_certificate) as it:
            assert await it.sessions(it.some(SESSIONS, abruptly=1.0)) == []
            assert await it.settled() == {}

    asyncio.run(run())


@pytest.mark.full
@pytest.mark.skipif(not LONG, reason="takes minutes: ESXIPROXY_LONG=1")
def test_nothing_is_left_of_fifty_thousand_sessions(
    upstream_certificate: Certificate, listener_certificate: Certificate
) -> None:
    """Half of them end in order.  Descriptors and memory are back where they were, within 2 %."""

    async def run() -> None:
        async with scene(upstream_certificate, listener_certificate) as it:
            assert await it.sessions(it.some(WARMING, abruptly=0.5)) == []
            assert await it.settled() == {}
            warm = it.proxy.resident()
            for _ in range(4):
                assert await it.sessions(it.some((MANY - WARMING) // 4, abruptly=0.5)) == []
                assert await it.settled() == {}
                print(f"{it.proxy.resident() / 1e6:.1f} MB, {warm / 1e6:.1f} after the warm-up")
            assert it.proxy.resident() <= warm * SLACK

    asyncio.run(run())

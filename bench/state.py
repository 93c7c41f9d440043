"""The cost of the shared state: calls, CPU time and memory a console, in memory, in SQLite and in Redis.

    python -m bench.state                # 10,000 consoles and 50 arrivals a second, about a minute
    python -m bench.state --consoles 500 --seconds 2

A process makes the calls that a proxy makes for consoles, without their connections.  Figures are CPU times
and counts, because they depend less on what else runs on the machine than wall-clock times do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred

from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.factory import open_state
from esxiproxy.state.redis_replies import ReplyReader, command
from esxiproxy.state.redis_server import fields_of

KINDS = ("memory", "sqlite", "redis")
ARRIVALS = 50
"""Consoles that begin and end a second."""
PER_HOST = 50
AT_A_TIME = 50
_REQUEST: Any = SimpleNamespace(listener="consoles", client=SimpleNamespace(host="198.51.100.7"))


class Console:
    """The calls of one console, with a limit at each of the three steps."""

    def __init__(self, state: Any, number: int) -> None:
        self._state = state
        self._slot = f"{state.instance_id} {number}"
        self._limits = ConnectionLimits(max_sessions=10**6)
        self._host = f"10.0.{number // PER_HOST >> 8}.{number // PER_HOST & 255}"
        self._vm = f"vm-{number}"
        self._entry = SessionEntry(
            session=self._slot,
            holder=state.instance_id,
            listener="consoles",
            client="198.51.100.7:50123",
            principal="alice",
            target="/ticket/***",
            upstream="esxi",
            since=time.time(),
            host=self._host,
            authenticator="authenticator sso",
            console=self._vm,
            address=self._host,
        )

    async def open(self) -> None:
        """Take the slots of each step, and publish the console."""
        steps = (
            (self._slot, self._limits.on_arrival(_REQUEST)),
            (self._slot, self._limits.on_decision("alice", self._vm)),
            (f"{self._slot} connection", self._limits.on_dial(self._host)),
        )
        for slot, claims in steps:
            refused = await _wait(self._state.take(slot, claims))
            assert refused is None, refused
        self._state.publish(self._entry)

    async def end(self) -> None:
        """Withdraw the console, and release its slots."""
        await asyncio.gather(
            _wait(self._state.withdraw(self._slot)),
            _wait(self._state.give(self._slot)),
            _wait(self._state.give(f"{self._slot} connection")),
        )


class Redis:
    """A server of this run, with its counters."""

    def __init__(self, folder: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("redis-server is missing: install the Debian package redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder]
        self._process = subprocess.Popen(
            [program, *where, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
        )
        self._reader = ReplyReader()
        deadline = time.monotonic() + 20
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", self.port), 20)
                break
            except ConnectionError:
                assert time.monotonic() < deadline and self._process.poll() is None, "redis-server has ended"

    def call(self, *words: str) -> Any:
        """Return the reply to a command."""
        self._socket.sendall(command(words))
        while not (found := list(self._reader.feed(self._socket.recv(1 << 16)))):
            pass
        return found[0]

    def figures(self) -> dict[str, float]:
        """Return the calls of the script, their seconds, the CPU seconds and the bytes of the data."""
        info = fields_of(self.call("INFO", "all"))
        script = dict(part.split("=") for part in info.get("cmdstat_evalsha", "calls=0,usec=0").split(","))
        return {
            "calls": float(script["calls"]),
            "script": float(script["usec"]) / 1e6,
            "server": float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
            "bytes": float(info["used_memory"]),
        }

    def stop(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


class Meter:
    """The differences of counters between two moments."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        of_server = {} if self._redis is None else self._redis.figures()
        return {**of_server, "process": time.process_time(), "seconds": time.monotonic()}

    def lap(self) -> dict[str, float]:
        """Return the differences since the last call."""
        before, self._before = self._before, self._now()
        return {name: value - before[name] for name, value in self._before.items()}


def _wait(waiting: Awaitable[Any]) -> Awaitable[Any]:
    if isinstance(waiting, Deferred):
        return waiting.asFuture(asyncio.get_running_loop())
    return waiting


async def _repeated(call: Callable[[], Awaitable[Any]]) -> None:
    """Make a call until it succeeds, for at most 10 s."""
    for _ in range(100):
        try:
            await _wait(call())
        except StateUnavailable:
            await asyncio.sleep(0.1)
        else:
            return
    raise SystemExit("the state is unavailable")


async def measure(
    kind: str, consoles: int, seconds: float, idle: float, folder: str, redis: Redis | None
) -> dict[str, Any]:
    """Return the figures of one kind of state."""
    from twisted.internet import reactor

    place = {
        "memory": None,
        "sqlite": Path(folder) / "state.sqlite",
        "redis": RedisAddress("127.0.0.1", redis.port if redis else 0),
    }[kind]
    state: Any = open_state(place, reactor, reactor)  # type: ignore[arg-type]
    await _wait(state.start(lambda _command: None))
    first = ConnectionLimits(max_sessions=10**6).on_arrival(_REQUEST)
    await _repeated(lambda: state.take("first", first))  # a new Redis admits nothing for 2 s
    meter, found = Meter(redis), {}
    running = deque(Console(state, number) for number in range(consoles))
    waiting = iter(list(running))
    await asyncio.gather(*(_open_all(waiting) for _ in range(AT_A_TIME)))
    await asyncio.sleep(0.2)
    found["open"] = meter.lap()
    await asyncio.sleep(idle)
    found["idle"] = meter.lap()
    await _arrive(state, running, consoles, seconds)
    found["arrivals"] = {**meter.lap(), "consoles": int(seconds * ARRIVALS)}
    if redis is not None:
        redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        begun = time.monotonic()
        await _repeated(lambda: state.in_use(["listener consoles"]))
        found["registered"] = {**meter.lap(), "seconds": time.monotonic() - begun}
    waiting = iter(list(running))
    await asyncio.gather(*(_end_all(waiting) for _ in range(AT_A_TIME)))
    found["end"] = meter.lap()
    await _wait(state.stop())
    return found


async def _open_all(waiting: Iterator[Console]) -> None:
    for console in waiting:
        await console.open()


async def _end_all(waiting: Iterator[Console]) -> None:
    for console in waiting:
        await console.end()


async def _arrive(state: Any, running: deque[Console], first: int, seconds: float) -> None:
    """Begin and end so many consoles a second, while all others stay open."""
    tasks = []
    begun = time.monotonic()
    for number in range(int(seconds * ARRIVALS)):
        console, oldest = Console(state, first + number), running.popleft()
        running.append(console)
        tasks += [asyncio.ensure_future(console.open()), asyncio.ensure_future(oldest.end())]
        await asyncio.sleep(max(0.0, begun + (number + 1) / ARRIVALS - time.monotonic()))
    await asyncio.gather(*tasks)


def rows(found: dict[str, dict[str, dict[str, float]]], consoles: int) -> Iterator[Sequence[str]]:
    """Yield the lines of the table."""

    def cells(show: Any) -> list[str]:
        return [show(found[kind]) if kind in found else "" for kind in KINDS]

    def of_redis(show: Any) -> list[str]:
        return ["–", "–", show(found["redis"]) if "redis" in found else ""]

    def per_second(phase: str) -> Any:
        return lambda of: f"{of[phase]['calls'] / of[phase]['seconds']:.1f}"

    def micros(phase: str, name: str) -> Any:
        return lambda of: f"{of[phase][name] / consoles * 1e6:,.0f} µs"

    def percent(phase: str, name: str) -> Any:
        return lambda of: f"{100 * of[phase][name] / of[phase]['seconds']:.1f} %"

    many = f"{consoles:,} consoles"
    yield (
        "calls to Redis, a console from its begin to its end",
        *of_redis(lambda of: f"{of['arrivals']['calls'] / of['arrivals']['consoles']:.1f}"),
    )
    yield "CPU of the proxy, a console begins", *cells(micros("open", "process"))
    yield "CPU of the proxy, a console ends", *cells(micros("end", "process"))
    yield "CPU of Redis, a console begins", *of_redis(micros("open", "server"))
    yield "CPU of Redis, a console ends", *of_redis(micros("end", "server"))
    yield "memory of Redis, a console", *of_redis(lambda of: f"{of['open']['bytes'] / consoles:,.0f} bytes")
    yield f"{many}: calls to Redis a second", *of_redis(per_second("idle"))
    yield f"{many}: CPU of the proxy", *cells(percent("idle", "process"))
    yield f"{many}: CPU of Redis", *of_redis(percent("idle", "server"))
    arriving = f"{many}, {ARRIVALS} begin and {ARRIVALS} end a second"
    yield f"{arriving}: calls to Redis a second", *of_redis(per_second("arrivals"))
    yield f"{arriving}: CPU of the proxy", *cells(percent("arrivals", "process"))
    yield f"{arriving}: CPU of Redis", *of_redis(percent("arrivals", "server"))
    yield (
        f"registration of {many}: time in Redis",
        *of_redis(lambda of: f"{of['registered']['script'] * 1e3:.0f} ms"),
    )


@contextmanager
def server_of(kind: str, folder: str) -> Iterator[Redis | None]:
    """Run a Redis server for the kind that needs one."""
    redis = Redis(folder) if kind == "redis" else None
    try:
        yield redis
    finally:
        if redis is not None:
            redis.stop()


def main(arguments: Sequence[str]) -> int:
    """Measure all kinds, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.state", description=__doc__)
    parser.add_argument("--consoles", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of arrivals")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds before the arrivals")
    parser.add_argument("--kind", choices=KINDS, help="measure one kind, and print JSON")
    options = parser.parse_args(arguments)
    if options.kind is None:
        command_line = [sys.executable, "-m", "bench.state", *arguments, "--kind"]
        outputs = {kind: subprocess.check_output([*command_line, kind]) for kind in KINDS}
        print("| | `memory:` | `sqlite:` | Redis |\n|---|---|---|---|")
        for row in rows({kind: json.loads(text) for kind, text in outputs.items()}, options.consoles):
            print(f"| {' | '.join(row)} |")
        return 0
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    from twisted.internet import reactor

    reactor.startRunning(installSignalHandlers=False)  # type: ignore[attr-defined]
    try:
        with tempfile.TemporaryDirectory() as folder, server_of(options.kind, folder) as redis:
            measuring = measure(options.kind, options.consoles, options.seconds, options.idle, folder, redis)
            print(json.dumps(loop.run_until_complete(measuring)))
    finally:
        reactor.getThreadPool().stop()  # type: ignore[attr-defined]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The load sees what it is there for: a byte, a console or a connect that goes wrong on the way."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.soak.console import Door
from bench.soak.load import Load
from bench.soak.loop import Loop
from bench.soak.stream import Stream
from bench.soak.tally import Fault, Spread, Tally
from bench.soak.upstream import Upstream
from bench.soak.wire import Reader, Wrong
from tests.support.certificates import Authority
from tests.support.programs import dead_port
from tests.support.websocket import BINARY, CONTINUATION, PING, frame
from tests.support.websocket_peers import trusting_context

PACE = 0.05
ENOUGH = 30
"""Messages that a console has exchanged before something happens to them."""


@dataclass
class Side:
    """One of the two connections of a bad proxy, which forwards to the other one."""

    change: Callable[[bytes], bytes]
    other: Side | None = None
    stream: Stream | None = None
    early: list[bytes] = field(default_factory=list)

    def opened(self) -> None:
        while self.early and self.stream:
            self.stream.write(self.early.pop(0))

    def received(self, octets: bytes) -> None:
        assert self.other and self.other.stream
        self.other.early.append(self.change(octets))
        self.other.opened()

    def lost(self, _how: str) -> None:
        if self.other and self.other.stream:
            self.other.stream.end()


@dataclass
class Scene:
    """A load, and a bad proxy on a port of its own: `up` and `down` change what passes."""

    load: Load
    port: int
    up: Callable[[bytes], bytes] = bytes
    down: Callable[[bytes], bytes] = bytes
    sides: list[Side] = field(default_factory=list)

    def warmed(self) -> None:
        """Wait until a console is open without failures."""
        self.load.go(1, 10)
        tally = self.load.tally
        assert self.load.loop.run(10, lambda: tally.messages > ENOUGH), tally.report()
        assert not tally.failures, tally.report()

    def fails(self, fault: Fault) -> str:
        """Wait for the first failure, which has to be of this kind, and return its text."""
        tally = self.load.tally
        assert self.load.loop.run(10, lambda: tally.failures), "all is well"
        assert tally.failures[0].fault is fault, tally.report()
        return tally.failures[0].text


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    loop, tally = Loop(), Tally()
    context = Authority(tmp_path).server("upstream").server_context()
    upstream = Upstream(loop, tally, context, PACE)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        scene = Scene(Load(loop, tally, upstream, [Door("bad", port)], PACE), port)

        def ready(_events: int) -> None:
            taken, _ = listening.accept()
            client, server = Side(lambda octets: scene.up(octets)), Side(lambda octets: scene.down(octets))
            client.other, server.other = server, client
            client.stream = Stream(loop, taken, client, None)
            server.stream = Stream.dial(loop, upstream.plain, server, None)
            scene.sides += [client, server]

        loop.watch(listening.fileno(), 1, ready)
        yield scene
        upstream.close()
        loop.close()


def once(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a function that makes this change in the first piece that may be a message."""
    done = False

    def changed(octets: bytes) -> bytes:
        nonlocal done
        if done or len(octets) < 30:
            return octets
        done = True
        return change(octets)

    return changed


CHANGES = {
    "changed": lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]),
    "lost": lambda _octets: b"",
    "repeated": lambda octets: octets * 2,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_bytes_that_are_not_as_they_were_sent_are_seen(direction: str, change: object, scene: Scene) -> None:
    """The proxy changes a byte, drops a piece or repeats one, in either direction."""
    scene.warmed()
    setattr(scene, direction, once(change))  # type: ignore[arg-type]
    scene.fails(Fault.WRONG)


def test_a_console_that_is_cut_off_is_lost(scene: Scene) -> None:
    """A new console replaces it."""
    scene.warmed()
    assert scene.sides[0].stream and scene.sides[1].stream
    scene.sides[0].stream.reset()
    scene.sides[1].stream.reset()
    assert "ConnectionResetError" in scene.fails(Fault.LOST)
    assert scene.load.loop.run(10, scene.load.is_full)


def test_an_upstream_that_is_left_behind_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has its end, and the other connection stays."""
    monkeypatch.setattr("bench.soak.load.CLOSING", 0.2)
    scene.warmed()
    assert scene.sides[0].stream
    scene.sides[0].stream.reset()
    scene.sides[0].other = None
    assert scene.load.loop.run(10, lambda: scene.load.tally.of(Fault.LINGERS)), scene.load.tally.report()


def test_a_connect_that_is_refused_is_seen(scene: Scene) -> None:
    """The port is closed, or the answer is no 101."""
    scene.down = lambda octets: octets.replace(b"101 Switching", b"503 Service")
    scene.load.go(1, 10)
    assert "HTTP/1.1 503" in scene.fails(Fault.REFUSED)
    with dead_port() as port:
        scene.load.doors = [Door("dead", port)]
        refused = scene.load.tally.of(Fault.REFUSED)
        scene.load.go(1, 10)
        assert scene.load.loop.run(10, lambda: len(scene.load.tally.of(Fault.REFUSED)) > len(refused) + 3)
        assert "connecting" in scene.load.tally.failures[-1].text


def test_without_a_proxy_all_is_well(scene: Scene) -> None:
    """Consoles and visitors that end in every way, over ws and wss: nothing fails, everything is over."""
    load, tally = scene.load, scene.load.tally
    load.doors = [
        Door("ws", load.upstream.plain),
        Door("wss", load.upstream.secure, trusting_context()),
    ]
    load.go(20, 100, visits=30, lifetime=0.5)
    assert load.loop.run(20, lambda: tally.begun > 150 or tally.failures), tally.report()
    assert load.finish() and not load.upstream.sessions
    assert not tally.failures, tally.report()
    trips, openings = tally.take()
    assert 0 < trips.p50 <= trips.p99 <= trips.longest < 5 and openings.count == tally.opened


@pytest.mark.parametrize(
    "octets",
    [
        frame(BINARY, b"x", mask=b"mask"),
        frame(BINARY, b"x", rsv=4),
        frame(CONTINUATION, b"x"),
        frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"),
        frame(PING, b"x", fin=False),
        frame(PING, b"x" * 126),
        frame(BINARY, length=1 << 40),
    ],
    ids=["masked", "RSV", "continuation", "new message", "fragmented ping", "long ping", "endless"],
)
def test_frames_that_break_a_rule_are_wrong(octets: bytes) -> None:
    """RFC 6455 5.1 to 5.5, and no frame is larger than any that is sent."""
    with pytest.raises(Wrong):
        list(Reader(masks=False).feed(octets))


def test_a_spread_has_the_middle_the_99th_and_the_longest() -> None:
    """The values are right for a hundred durations, and 0 without durations."""
    spread = Spread.of([number / 1000 for number in range(100, 0, -1)])
    assert str(spread) == "50.0 / 99.0 / 100.0 ms" and spread.count == 100
    assert Spread.of([]) == Spread()

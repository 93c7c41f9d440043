"""Random frames, chunks, pauses and ends pass the real process, and nothing is left of them.

The name of a test has its seed. `ESXIPROXY_LONG=1` runs 40 seeds in each mode instead of 4.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.certificates import Certificate
from tests.support.fuzzed_sessions import opened, run
from tests.support.fuzzing import NOISE, Party
from tests.support.listeners import KINDS, Upstreams, three_listeners
from tests.support.programs import TICKET, Proxy, dead_port, until
from tests.support.proxy_scene import ProxyScene
from tests.support.websocket import BINARY, CLOSE, PING, close_payload, frame

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
SEEDS = range(40 if LONG else 4)
BUDGET = 1_500_000
"""Bytes of data frames that each end sends at least; to a reader that stops it sends until it is stuck."""
LAST_PINGS = 5
"""Pings at the end, when nothing stands in the way of their pongs."""
DEADLINE = 20.0
TARGET = f"/ticket/{TICKET}"

each_mode = pytest.mark.parametrize("name", KINDS, ids=KINDS.values())
each_seed = pytest.mark.parametrize("seed", SEEDS)


@dataclass
class FuzzScene(ProxyScene):
    """The proxy, and the listening sockets of the upstreams behind its listeners."""

    upstreams: dict[str, tuple[socket.socket, ssl.SSLContext | None]] = field(default_factory=dict)

    def session(self, name: str, rng: random.Random, budget: int = BUDGET) -> tuple[Party, Party]:
        """Return both ends of a new session."""
        listening, context = self.upstreams[name]
        return opened(rng, self.proxy.ports[name], name == "three", listening, context, TARGET, budget)


@pytest.fixture(scope="module")
def scene(
    transports: str, upstream_certificate: Certificate, listener_certificate: Certificate
) -> Iterator[FuzzScene]:
    with (
        socket.create_server(("127.0.0.1", 0)) as plain,
        socket.create_server(("127.0.0.1", 0)) as secure,
        dead_port() as nobody,
    ):
        ports = [listening.getsockname()[1] for listening in (plain, secure)]
        text = three_listeners(
            Upstreams(*ports, upstream_certificate, nobody),
            listener_certificate,
            stall_timeout="2s",
            ping_interval="50ms",
            upstream_ping_interval="50ms",
        )
        behind = secure, upstream_certificate.server_context()
        with Proxy(text) as proxy:
            scene = FuzzScene(proxy, upstreams={"one": (plain, None), "two": behind, "three": behind})
            until(lambda: "listener dead" in proxy.log(), "all listeners")
            for name in KINDS:  # whatever a first session opens for good is counted as there
                for party in scene.session(name, random.Random(0), 1000):
                    party.reset()
            until(lambda: proxy.connections() == 0, "no connection is left of the first sessions")
            # A record is written when both descriptors are closed; the kernel shows the end earlier.
            until(lambda: proxy.log().count("status=101") == len(KINDS), "the first sessions have ended")
            scene.idle = scene.proxy.descriptors()
            yield scene
            proxy.assert_clean()
            assert "Internal" not in proxy.log()


def seeded(name: str, seed: int, part: str) -> random.Random:
    """Yield the one random generator of a test; its seed is shown when the test fails."""
    text = f"{part} {name} {seed}"
    print(f"random.Random({text!r})")
    return random.Random(text)


# The ends


def bad_frame(rng: random.Random, first: Party) -> tuple[bytes, int]:
    """Return bytes that violate the protocol if this end sends them next, and the close code for them."""
    masks = first.masks
    mask = rng.randbytes(4) if masks else False
    wrong = False if masks else rng.randbytes(4)
    return rng.choice(
        (
            (frame(BINARY, b"x", rsv=rng.randint(1, 7), mask=mask), 1002),
            (frame(PING, b"x", rsv=rng.randint(1, 7), mask=mask), 1002),
            (frame(rng.randint(3, 7), b"x", mask=mask), 1002),
            (frame(rng.randint(11, 15), b"x", mask=mask), 1002),
            (frame(BINARY, b"x", mask=wrong), 1002),
            (frame(PING, b"x", mask=wrong), 1002),
            (frame(first.misplaced(), b"x", mask=mask), 1002),
            (frame(BINARY, b"x" * 125, mask=mask, length_bytes=2), 1002),
            (frame(BINARY, b"x" * 126, mask=mask, length_bytes=8), 1002),
            (frame(BINARY, b"", mask=mask, length=1 << 63), 1002),
            (frame(PING, b"x" * 126, mask=mask), 1002),
            (frame(PING, b"x", fin=False, mask=mask), 1002),
            (frame(CLOSE, b"x", mask=mask), 1002),
            (
                frame(CLOSE, close_payload(rng.choice((0, 999, 1005, 1006, 1015, 2999, 5000))), mask=mask),
                1002,
            ),
            (frame(CLOSE, close_payload(1000, b"\xff"), mask=mask), 1007),
        )
    )


def part_of_a_frame(rng: random.Random, masks: bool) -> bytes:
    """Return a complete header with less payload than it announces."""
    size = rng.choice((2, 125, 126, 65535, 65536, 1 << 40))
    octets = frame(BINARY, mask=rng.randbytes(4) if masks else False, length=size)
    return octets + NOISE[: rng.randrange(min(size, 5000))]


def a_close(rng: random.Random) -> tuple[int, bytes]:
    """Return a code that may be sent, and a reason of at most 123 bytes."""
    return rng.choice((1000, 1001, 1008, 1011, 3000, 4999)), b"r" * rng.choice((0, 1, 50, 123))


def closes(rng: random.Random, first: Party, other: Party) -> None:
    """Check that a Close passes with code and reason, and that the answer is returned."""
    close = a_close(rng)
    first.close(*close)
    run([first, other], lambda: bool(first.closed and other.closed), "both have a Close", DEADLINE)
    assert first.closed == other.closed == close


def resets(rng: random.Random, first: Party, other: Party) -> None:
    """Reset one end, and check that the other end gets a Close."""
    first.reset()
    run([other], lambda: other.closed is not None, "the other end has its Close", DEADLINE)
    assert other.closed is not None and other.closed[0] == _told(first)


def drops_mid_frame(rng: random.Random, first: Party, other: Party) -> None:
    """Drop one end within a frame; the other end gets the part that was sent, and no Close in it."""
    octets = part_of_a_frame(rng, first.masks)
    first.sent += octets
    first.send(octets)
    run([first, other], lambda: len(other.got) == len(first.sent), "the part has arrived", DEADLINE)
    rng.choice((first.drop, first.reset))()
    run([other], lambda: bool(other.ended), "the other end is left", DEADLINE)
    assert other.closed is None


def sends_a_bad_frame(rng: random.Random, first: Party, other: Party) -> None:
    """Violate the protocol; the offender gets the close code, and the other end learns of the end."""
    octets, code = bad_frame(rng, first)
    first.send(octets)
    run([first, other], lambda: bool(first.closed and other.closed), f"a Close: {octets[:20]!r}", DEADLINE)
    assert first.closed is not None and other.closed is not None
    assert (first.closed[0], other.closed[0]) == (code, _told(first)), octets[:20]


def _told(first: Party) -> int:
    """Check the Close that an end gets when the other end is lost."""
    return 1001 if first.name == "client" else 1011


End = Callable[[random.Random, Party, Party], None]
ENDS: list[tuple[End, str]] = [
    (end, side)
    for end in (closes, resets, drops_mid_frame, sends_a_bad_frame)
    for side in ("client", "upstream")
]


def ending(name: str, seed: int) -> tuple[End, str]:
    """Return the ending of a seed; endings alternate, so that a few seeds cover all of them."""
    return ENDS[(seed * len(KINDS) + list(KINDS).index(name)) % len(ENDS)]


@each_mode
@each_seed
def test_random_frames_pass_unchanged(name: str, seed: int, scene: FuzzScene) -> None:
    """Data frames arrive byte for byte, pings are answered on their own leg, and nothing is left at the end.

    Both directions at once.  Where pings come faster than they can be answered, the newest one is; once the
    data is through, each has its pong.
    """
    rng = seeded(name, seed, "whole")
    parties = client, upstream = scene.session(name, rng)
    try:
        run(parties, lambda: client.is_done() and upstream.is_done(), "everything has arrived", DEADLINE)
        assert (client.got, upstream.got) == (upstream.sent, client.sent)
        end, side = ending(name, seed)
        print(f"the end: {side} {end.__name__}", *parties, sep="\n")
        before = [party.pongs for party in parties]
        for party in parties:
            party.skip_pauses()
            party.ping(LAST_PINGS)
        run(parties, lambda: client.is_done() and upstream.is_done(), "the last pongs", DEADLINE)
        assert [party.pongs for party in parties] == [count + LAST_PINGS for count in before]
        for party in parties:
            party.may_end = True
        end(rng, *(parties if side == "client" else parties[::-1]))
        run(parties, scene.is_idle, f"{scene.idle} descriptors, {scene.proxy.descriptors()} before", DEADLINE)
    finally:
        for party in parties:
            party.forget()


def in_the_middle(end: End, rng: random.Random, first: Party) -> None:
    """Begin this end, with the traffic of both directions still on the way."""
    if end is closes:
        first.close(*a_close(rng))
    elif end is sends_a_bad_frame:
        first.send(bad_frame(rng, first)[0])
    elif end is drops_mid_frame and rng.random() < 0.5:
        first.drop()
    else:
        first.reset()


@each_mode
@each_seed
def test_nothing_stays_of_a_session_that_ends_in_full_flow(name: str, seed: int, scene: FuzzScene) -> None:
    """An end at any moment: what has arrived is what was sent so far, and every descriptor is given back.

    An end that has nothing more to do may be dead from then on: it does not read, and does not let go.
    """
    rng = seeded(name, seed, "cut")
    parties = client, upstream = scene.session(name, rng)
    try:
        cut = rng.randrange(2 * BUDGET)
        run(parties, lambda: len(client.got) + len(upstream.got) >= cut, "half-way", DEADLINE)
        end, side = ending(name, seed)
        first, other = parties if side == "client" else parties[::-1]
        for party in parties:
            party.may_end = True
            party.skip_pauses()
        in_the_middle(end, rng, first)
        other.dead = rng.random() < 0.3
        first.dead = rng.random() < 0.3 and first.is_written()
        print(f"the end: {side} {end.__name__}, dead: {first.dead} {other.dead}", *parties, sep="\n")
        run(parties, scene.is_idle, f"{scene.idle} descriptors, {scene.proxy.descriptors()} before", DEADLINE)
    finally:
        for party in parties:
            party.forget()

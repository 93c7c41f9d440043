"""The in-memory transport beside real TCP: the same behaviours leave the same trace.

Every scene of the table is played over `tests/net/memory.py`, over Twisted's own transport and over ours on
loopback, and has to leave the trace that stands beside it each time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.net.transport.reactor import with_fast_transports
from tests.net.memory import HIGH_WATER, Wire

KIB = 1024
BUFFER = 32 * KIB
"""What each socket's buffers are set to."""
BLOCKING = KIB * KIB
"""More than the kernel takes then for a peer that does not read."""

Trace = list[tuple[Any, ...]]


@implementer(IPushProducer)
class Near(Protocol):
    """Our end: it notes what happens to it.  It is its transport's producer, too."""

    transport: Any

    def __init__(self) -> None:
        self.trace: Trace = []

    def dataReceived(self, data: bytes) -> None:
        if self.trace and self.trace[-1][0] == "got":
            data = self.trace.pop()[1] + data
        self.trace.append(("got", data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.trace.append(("lost", type(reason.value).__name__))

    def pauseProducing(self) -> None:
        self.trace.append(("pause",))

    def resumeProducing(self) -> None:
        self.trace.append(("resume",))

    def stopProducing(self) -> None:
        self.trace.append(("stop",))


class Memory:
    """Both ends in memory."""

    def __init__(self) -> None:
        self.near = Near()
        self.wire = Wire(self.near)

    def settle(self) -> None:
        """Until nothing moves any more."""
        while self.wire.pump():
            pass

    def send(self, octets: bytes) -> None:
        self.wire.send(octets)

    def close(self) -> None:
        self.wire.close()

    def reset(self) -> None:
        self.wire.reset()

    def block(self) -> None:
        self.wire.block()

    def unblock(self) -> None:
        self.wire.unblock()

    @property
    def received(self) -> bytes:
        return bytes(self.wire.received)

    @property
    def end(self) -> str | None:
        """How the stream ended for the far end."""
        if self.wire.ended == "aborted":
            return "RST"
        answered = self.wire.ended == "far" and self.near.trace[-1] == ("lost", "ConnectionDone")
        return "FIN" if answered or self.wire.saw_fin else None

    def stop(self) -> None:
        """Nothing is held."""


class Accepting(Factory):
    """Gives its one protocol to the one connection."""

    noisy = False

    def __init__(self, near: Near) -> None:
        self.near = near

    def buildProtocol(self, addr: Any) -> Near:
        return self.near


class Real:
    """Our end on a reactor that is turned by hand, the far end a plain socket."""

    def __init__(self, ours: bool = False) -> None:
        self.near = Near()
        self.received = b""
        self.end: str | None = None
        self._reading = True
        self._core = EPollReactor()
        self._core.startRunning(installSignalHandlers=False)
        reactor = with_fast_transports(self._core) if ours else self._core
        self._port = reactor.listenTCP(0, Accepting(self.near), interface="127.0.0.1")
        self._far = socket.socket()
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._far.connect(("127.0.0.1", self._port.getHost().port))
        self._far.setblocking(False)
        deadline = time.monotonic() + 10
        while self.near.transport is None:
            assert time.monotonic() < deadline
            self._turn()
        self.near.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def settle(self) -> None:
        """Until nothing has moved for a while; loopback itself takes no time."""
        quiet = 0
        while quiet < 15:
            before = self._state()
            self._turn()
            self._read()
            quiet = 0 if self._state() != before else quiet + 1

    def _turn(self) -> None:
        self._core.runUntilCurrent()
        self._core.doIteration(0.002)

    def _state(self) -> tuple[int, int, str | None]:
        noted = sum(len(event[1]) if event[0] == "got" else 1 for event in self.near.trace)
        return noted, len(self.received), self.end

    def _read(self) -> None:
        while self._reading and self.end is None:
            try:
                octets = self._far.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionError:
                self.end = "RST"
            else:
                self.received += octets
                self.end = None if octets else "FIN"

    def send(self, octets: bytes) -> None:
        self._far.sendall(octets)

    def close(self) -> None:
        self._far.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._far.close()
        self._reading = False

    def block(self) -> None:
        self._reading = False

    def unblock(self) -> None:
        self._reading = True

    def stop(self) -> None:
        self._reading = False
        with contextlib.suppress(OSError):
            self._far.close()
        self._port.stopListening()
        self.settle()
        self._core.fireSystemEvent("shutdown")


Bed = Memory | Real
Scene = Callable[[Bed], None]
SCENES: dict[str, tuple[Scene, Trace]] = {}


def scene(*trace: tuple[Any, ...]) -> Callable[[Scene], Scene]:
    """Enter a scene into the table with the trace that it has to leave, the far end's last."""

    def enter(play: Scene) -> Scene:
        SCENES[play.__name__] = play, list(trace)
        return play

    return enter


# Writing, and ending it


@scene(("lost", "ConnectionDone"), ("far", b"all of it", "FIN"))
def what_is_written_before_a_loss_arrives(bed: Bed) -> None:
    bed.near.transport.write(b"all ")
    bed.near.transport.writeSequence([b"of ", b"it"])
    bed.near.transport.loseConnection()
    bed.settle()


@scene(("lost", "ConnectionDone"), ("far", b"before", "FIN"))
def nothing_is_written_after_a_loss(bed: Bed) -> None:
    bed.near.transport.write(b"before")
    bed.near.transport.loseConnection()
    bed.settle()
    bed.near.transport.write(b"after")
    bed.settle()


@scene(("nothing yet",), ("lost", "ConnectionDone"), ("far", BLOCKING, "FIN"))
def a_loss_waits_for_a_peer_that_does_not_read(bed: Bed) -> None:
    bed.block()
    bed.near.transport.write(b"x" * BLOCKING)
    bed.near.transport.loseConnection()
    bed.settle()
    bed.near.trace.append(("nothing yet",))
    bed.unblock()
    bed.settle()


@scene(("lost", "ConnectionAborted"), ("far", None, "RST"))
def an_abort_drops_what_is_queued(bed: Bed) -> None:
    bed.block()
    bed.near.transport.write(b"x" * BLOCKING)
    bed.near.transport.abortConnection()
    assert bed.near.trace == [], "it is never told in the same stack"
    bed.settle()
    bed.unblock()
    bed.settle()
    assert len(bed.received) < BLOCKING


@scene(("lost", "ConnectionAborted"), ("far", None, "RST"))
def an_abort_does_not_wait_for_a_loss(bed: Bed) -> None:
    bed.block()
    bed.near.transport.write(b"x" * BLOCKING)
    bed.near.transport.loseConnection()
    bed.settle()
    bed.near.transport.abortConnection()
    bed.settle()
    bed.unblock()
    bed.settle()
    assert len(bed.received) < BLOCKING


@scene(("lost", "ConnectionAborted"), ("far", b"", "RST"))
def nothing_is_read_after_an_abort(bed: Bed) -> None:
    bed.send(b"never seen")
    bed.near.transport.abortConnection()
    bed.settle()


@scene(("got", b"still heard"), ("lost", "ConnectionDone"), ("far", b"the answer", "FIN"))
def half_a_connection_still_hears_the_peer(bed: Bed) -> None:
    bed.near.transport.write(b"the answer")
    bed.near.transport.loseWriteConnection()
    bed.settle()
    assert bed.end == "FIN"
    bed.send(b"still heard")
    bed.settle()
    bed.close()
    bed.settle()


@scene(("far", b"the answer", "FIN"))
def half_a_connection_writes_nothing_more(bed: Bed) -> None:
    bed.near.transport.write(b"the answer")
    bed.near.transport.loseWriteConnection()
    bed.settle()
    bed.near.transport.write(b"after")
    bed.settle()


# Reading, and the peer's end


@scene(("got", b"one"), ("paused",), ("resumed",), ("got", b"two, three"), ("far", b"", None))
def a_pause_holds_the_peers_bytes_in_order(bed: Bed) -> None:
    bed.send(b"one")
    bed.settle()
    bed.near.transport.pauseProducing()
    bed.near.trace.append(("paused",))
    bed.send(b"two, ")
    bed.settle()
    bed.send(b"three")
    bed.settle()
    bed.near.trace.append(("resumed",))
    bed.near.transport.resumeProducing()
    bed.settle()


@scene(("paused",), ("resumed",), ("got", b"last words"), ("lost", "ConnectionDone"), ("far", b"", "FIN"))
def a_pause_hides_a_fin(bed: Bed) -> None:
    bed.near.transport.pauseProducing()
    bed.near.trace.append(("paused",))
    bed.send(b"last words")
    bed.close()
    bed.settle()
    bed.near.trace.append(("resumed",))
    bed.near.transport.resumeProducing()
    bed.settle()


@scene(("paused",), ("resumed",), ("lost", "ConnectionLost"), ("far", b"", None))
def a_pause_hides_an_rst(bed: Bed) -> None:
    bed.near.transport.pauseProducing()
    bed.near.trace.append(("paused",))
    bed.reset()
    bed.settle()
    bed.near.trace.append(("resumed",))
    bed.near.transport.resumeProducing()
    bed.settle()


@scene(("far", b"written meanwhile", None))
def a_pause_stops_no_writing(bed: Bed) -> None:
    bed.near.transport.pauseProducing()
    bed.near.transport.write(b"written meanwhile")
    bed.settle()


@scene(("got", b"bye"), ("lost", "ConnectionDone"), ("far", b"", "FIN"))
def a_fin_of_the_peer_is_a_clean_end(bed: Bed) -> None:
    bed.send(b"bye")
    bed.close()
    bed.settle()


@scene(("lost", "ConnectionDone"), ("far", None, "FIN"))
def a_fin_of_the_peer_ends_what_is_queued(bed: Bed) -> None:
    bed.block()
    bed.near.transport.write(b"x" * BLOCKING)
    bed.settle()
    bed.close()
    bed.settle()
    bed.unblock()
    bed.settle()
    assert len(bed.received) < BLOCKING


@scene(("got", b"bye"), ("lost", "ConnectionLost"), ("far", b"", None))
def an_rst_of_the_peer_is_none(bed: Bed) -> None:
    bed.send(b"bye")
    bed.settle()
    bed.reset()
    bed.settle()


# The producer


@scene(("far", HIGH_WATER, None))
def a_producer_may_queue_64_kib(bed: Bed) -> None:
    bed.near.transport.registerProducer(bed.near, True)
    bed.near.transport.write(b"x" * HIGH_WATER)
    bed.settle()


@scene(("pause",), ("still paused",), ("resume",), ("far", BLOCKING, None))
def a_producer_is_paused_beyond_that_until_all_is_gone(bed: Bed) -> None:
    bed.block()
    bed.near.transport.registerProducer(bed.near, True)
    bed.near.transport.write(b"x" * BLOCKING)
    bed.settle()
    bed.near.trace.append(("still paused",))
    bed.unblock()
    bed.settle()


@scene(("pause",), ("resume",), ("pause",), ("resume",), ("far", 2 * BLOCKING, None))
def a_producer_is_paused_again(bed: Bed) -> None:
    bed.near.transport.registerProducer(bed.near, True)
    for _ in range(2):
        bed.block()
        bed.near.transport.write(b"x" * BLOCKING)
        bed.settle()
        bed.unblock()
        bed.settle()


@scene(("pause",), ("stop",), ("lost", "ConnectionAborted"), ("far", None, "RST"))
def a_producer_is_stopped_before_the_end_is_told(bed: Bed) -> None:
    bed.block()
    bed.near.transport.registerProducer(bed.near, True)
    bed.near.transport.write(b"x" * BLOCKING)
    bed.settle()
    bed.near.transport.abortConnection()
    bed.settle()
    bed.unblock()
    bed.settle()


@scene(("registered",), ("far", BLOCKING, None))
def who_comes_late_is_not_paused_for_what_is_queued(bed: Bed) -> None:
    bed.block()
    bed.near.transport.write(b"x" * BLOCKING)
    bed.near.transport.registerProducer(bed.near, True)
    bed.near.trace.append(("registered",))
    bed.settle()
    bed.unblock()
    bed.settle()


@scene(("pause",), ("unregistered",), ("lost", "ConnectionDone"), ("far", BLOCKING, "FIN"))
def a_producer_that_goes_is_not_resumed(bed: Bed) -> None:
    bed.block()
    bed.near.transport.registerProducer(bed.near, True)
    bed.near.transport.write(b"x" * BLOCKING)
    bed.near.transport.unregisterProducer()
    bed.near.trace.append(("unregistered",))
    bed.near.transport.loseConnection()
    bed.settle()
    bed.unblock()
    bed.settle()


BEDS: dict[str, Callable[[], Bed]] = {
    "memory": Memory,
    "Twisted's TCP": Real,
    "our TCP": lambda: Real(ours=True),
}


@pytest.mark.parametrize("bed", BEDS)
@pytest.mark.parametrize("name", SCENES)
def test_the_same_trace(name: str, bed: str) -> None:
    """A scene leaves the same trace in memory and over TCP."""
    play, expected = SCENES[name]
    stage = BEDS[bed]()
    try:
        play(stage)
        trace, received, end = list(stage.near.trace), stage.received, stage.end
    finally:
        stage.stop()
    wanted = expected[-1][1]
    noted = None if wanted is None else received if isinstance(wanted, bytes) else len(received)
    assert [*trace, ("far", noted, end)] == expected

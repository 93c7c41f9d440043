"""The in-memory transport beside real TCP: the same behaviours have the same trace.

Every scene of the table is run over `tests/net/memory.py`, over Twisted's transports and over the fast
transports on loopback, and each run has to leave the trace of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from esxiproxy.net.transport.constants import HIGH_WATER
from tests.net.contract_beds import BLOCKING, Bed, Memory, Real, Trace

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
def a_producer_may_queue_32_kib(bed: Bed) -> None:
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

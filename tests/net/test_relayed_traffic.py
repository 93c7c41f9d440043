"""The figures of an open console: bytes, idle time and stalls, without work for a frame."""

from dataclasses import replace

import pytest

from tests.net.scene import Scene, frame, frames, up
from tests.net.test_stall_detector import CLOSED, RESTS, Kernel

PONG = 10


@pytest.fixture
def scene():
    return Scene(ping_interval=None).open()


def traffic(scene):
    (live,) = scene.sessions
    return live.session.traffic


def test_the_bytes_of_each_way_are_counted(scene):
    scene.client.send(up(2, b"x" * 10))
    scene.host.send(frame(2, b"y" * 20))
    scene.pump()
    assert (traffic(scene).octets_up, traffic(scene).octets_down) == (16, 22)


def test_the_idle_time_begins_with_the_last_data(scene):
    scene.advance(10)
    assert traffic(scene).idle() == pytest.approx(10)
    scene.client.send(up(2, b"x"))
    scene.pump()
    assert traffic(scene).idle() == pytest.approx(0)
    scene.advance(7)
    assert traffic(scene).idle() == pytest.approx(7)


def test_without_a_reader_the_idle_time_is_as_exact_as_the_checks_for_a_stall(scene):
    scene.host.send(frame(2, b"y"))
    scene.pump()
    scene.advance(3600)
    assert 3600 - 15.2 <= traffic(scene).idle() <= 3600


def test_the_totals_grow_while_consoles_run_and_are_exact_at_their_end(scene):
    scene.client.send(up(2, b"x" * 10))
    scene.pump()
    totals = scene.sessions.totals
    assert totals.octets_up == 0
    scene.advance(15.2)
    assert totals.octets_up == 16
    scene.host.send(frame(2, b"y" * 20))
    scene.pump()
    session = next(iter(scene.sessions)).session
    scene.client.close(), scene.host.close()
    scene.pump()
    assert (totals.octets_up, totals.octets_down) == (16, 22) and session.traffic is None


def test_round_trips_count_for_a_minute():
    scene = Scene().open()
    scene.advance(25.5)
    ((_fin, _opcode, payload),) = frames(scene.client.received)
    scene.client.send(up(PONG, payload))
    scene.pump()
    totals, now = scene.sessions.totals, scene.clock.seconds()
    assert totals.round_trip(now) == pytest.approx(0.5, abs=0.11)
    assert totals.round_trip(now + 59) is not None and totals.round_trip(now + 61) is None


def test_a_client_whose_write_buffer_stays_full_is_stalled(scene):
    scene.client.block()
    scene.host.send(frame(2, b"p" * 1000) * 300, 65536)
    scene.pump()
    assert not traffic(scene).is_stalled
    scene.advance(6)
    assert traffic(scene).is_stalled
    scene.client.unblock()
    scene.pump()
    assert not traffic(scene).is_stalled


def test_a_client_that_acknowledges_nothing_of_the_kernels_queue_is_stalled(monkeypatch):
    kernel = Kernel(monkeypatch, ping_interval=None)
    scene = kernel.scene
    scene.advance(16)
    assert not traffic(scene).is_stalled
    kernel.told = CLOSED
    scene.advance(31)
    assert traffic(scene).is_stalled
    kernel.told = replace(CLOSED, acknowledged=CLOSED.acknowledged + 1)
    scene.advance(15)
    assert not traffic(scene).is_stalled
    kernel.told = RESTS
    scene.advance(15)
    assert not traffic(scene).is_stalled

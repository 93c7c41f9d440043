"""The relay: data, control frames, flow control, timeouts and pings."""

import pytest

from esxiproxy.core.errors import Killed
from esxiproxy.net.console.leg import PONG
from tests.net.scene import Scene, close, frame, frames, opening, up

CLOSE, PING = 8, 9
BIG = 70_000


@pytest.fixture
def scene():
    return Scene().open()


# Data


@pytest.mark.parametrize("chunk", [None, 1, 7, 1000])
def test_data_frames_pass_verbatim_both_ways(scene, chunk):
    sent = up(2, b"x" * 10) + up(1, b"text") + up(2, b"", fin=False) + up(0, b"end") + up(2, b"y" * 3000)
    got = frame(2, b"z" * 200) + frame(1, b"", fin=False) + frame(0, b"more", fin=False) + frame(0, b"end")
    scene.client.send(sent, chunk)
    scene.host.send(got, chunk)
    scene.pump()
    assert scene.host.received == sent
    assert scene.client.received == got


def test_a_frame_is_forwarded_before_it_is_complete(scene):
    sent = up(2, b"x" * 1000)
    scene.client.send(sent[:500])
    scene.pump()
    assert scene.host.received == sent[:500]


def test_a_part_of_a_header_is_not_forwarded(scene):
    sent = up(2, b"x" * BIG)
    scene.client.send(sent[:13])
    scene.pump()
    assert scene.host.received == b""


def test_frames_behind_the_101_are_delivered():
    scene = Scene()
    scene.client.send(opening())
    scene.pump()
    scene.client.send(up(2, b"early"))
    scene.pump()
    scene.accept(extra=frame(2, b"RFB 003.008\n"))
    scene.pump()
    assert frames(scene.host.received.partition(b"\r\n\r\n")[2]) == [(True, 2, b"early")]
    assert frames(scene.client.received.partition(b"\r\n\r\n")[2]) == [(True, 2, b"RFB 003.008\n")]


# Control frames


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_ping_is_answered_on_its_own_leg_and_not_passed_on(scene, chunk):
    scene.client.send(up(PING, b"a"), chunk)
    scene.host.send(frame(PING, b"b"), chunk)
    scene.pump()
    assert frames(scene.client.received) == [(True, PONG, b"a")]
    assert frames(scene.host.received) == [(True, PONG, b"b")]
    assert scene.host.received[1] & 0x80, "a client's frame is masked"


def test_an_unsolicited_pong_is_ignored(scene):
    scene.client.send(up(PONG, b"a"))
    scene.pump()
    assert scene.client.received == scene.host.received == b""


def test_a_pong_waits_for_the_end_of_the_frame_that_is_going_out(scene):
    picture = frame(2, b"p" * 1000)
    scene.host.send(picture[:500])
    scene.pump()
    scene.client.send(up(PING, b"now"))
    scene.pump()
    assert scene.client.received == picture[:500]
    scene.host.send(picture[500:])
    scene.pump()
    assert scene.client.received == picture + frame(PONG, b"now")


def test_a_pong_is_written_between_frames_that_follow_without_a_break(scene):
    one, two = frame(2, b"1" * 1000), frame(2, b"2" * 1000)
    stream = one + two
    scene.host.send(stream[:500])
    scene.pump()
    scene.client.send(up(PING, b"now"))
    scene.pump()
    scene.host.send(stream[500:1500])
    scene.pump()
    assert scene.client.received == one + frame(PONG, b"now") + stream[len(one) : 1500]


def test_a_leg_in_the_middle_of_a_frame_keeps_only_the_newest_pong(scene):
    picture = frame(2, b"p" * 1000)
    scene.host.send(picture[:500])
    scene.pump()
    for index in range(100):
        scene.client.send(up(PING, b"%d" % index))
    scene.pump()
    scene.host.send(picture[500:])
    scene.pump()
    assert scene.client.received == picture + frame(PONG, b"99")


def test_a_pong_held_for_a_blocked_leg_is_written_when_it_has_drained(scene):
    picture = frame(2, b"p" * 100_000)
    scene.client.block()
    scene.host.send(picture)
    scene.pump()
    scene.client.send(up(PING, b"now"))
    scene.pump()
    assert scene.backend.peer_leg.blocked and scene.backend.peer_leg.held
    scene.client.unblock()
    scene.pump()
    assert scene.client.received == picture + frame(PONG, b"now")


def test_a_flood_of_pings_by_a_client_that_does_not_read_ends_with_1008(scene):
    scene.client.block()
    for _ in range(3000):
        scene.client.send(up(PING, b"x" * 125))
    scene.pump()
    assert len(scene.client.transport.queue) < 256 * 1024
    assert frames(scene.host.received)[-1][1] == CLOSE
    scene.advance(5.2)
    scene.host.close()
    scene.advance(1)
    assert scene.record.error == "Flood"
    assert scene.client.ended == "aborted" and scene.at_rest()


# Flow control


def test_a_client_that_does_not_read_stops_its_host(scene):
    scene.client.block()
    scene.host.send(frame(2, b"p" * 10_000_000), 65536)
    scene.pump()
    assert not scene.host.transport.reading
    assert len(scene.client.transport.queue) <= 128 * 1024
    scene.client.unblock()
    scene.pump()
    assert len(scene.client.received) == 10_000_010


def test_a_host_that_does_not_read_stops_its_client(scene):
    scene.host.block()
    scene.client.send(up(2, b"p" * 1_000_000), 65536)
    scene.pump()
    assert not scene.client.transport.reading
    assert len(scene.host.transport.queue) <= 128 * 1024
    scene.host.unblock()
    scene.pump()
    assert len(scene.host.received) == 1_000_014


def test_a_leg_that_acknowledges_nothing_for_stall_timeout_ends_the_session(scene):
    scene.client.block()
    scene.host.send(frame(2, b"p" * 1000) * 300, 65536)
    scene.pump()
    scene.advance(59)
    assert not scene.recorder.records
    scene.advance(2)
    reason = b"the client acknowledged nothing for 60 s (write buffer full)"
    assert frames(scene.host.received)[-1] == (True, CLOSE, close(1008, reason))
    scene.host.close()
    scene.advance(5.2)
    assert scene.record.error == "StallTimeout"
    assert scene.client.ended == "aborted" and scene.at_rest()


def test_a_leg_that_reads_slowly_does_not_stall():
    scene = Scene(ping_interval=None).open()
    scene.client.block()
    scene.host.send(frame(2, b"p" * 500_000), 65536)
    for _ in range(4):
        scene.pump()
        scene.advance(40)
        scene.client.unblock(200_000)
        scene.pump()
        scene.client.block()
    assert not scene.recorder.records


# Timeouts of the proxy


def test_a_killed_session_sends_its_reason_to_both_sides(scene):
    (holder,) = scene.sessions
    holder.end(Killed("maintenance of esxi1"))
    scene.pump()
    expected = [(True, CLOSE, close(1008, b"maintenance of esxi1"))]
    assert frames(scene.client.received) == frames(scene.host.received) == expected
    scene.client.send(up(CLOSE, close(1008)))
    scene.host.send(frame(CLOSE, close(1008)))
    scene.host.close()
    scene.pump()
    assert scene.at_rest() and scene.record.error == "Killed" and scene.record.close_code == 1008


def test_a_kill_within_a_frame_completes_only_that_frame(scene):
    picture = frame(2, b"p" * 1000)
    scene.host.send(picture[:500])
    scene.pump()
    (holder,) = scene.sessions
    holder.end(Killed("now"))
    scene.host.send(picture[500:] + frame(2, b"next"))
    scene.pump()
    assert frames(scene.client.received) == [(True, 2, b"p" * 1000), (True, CLOSE, close(1008, b"now"))]


def test_idle_timeout_ends_a_silent_session_and_pings_do_not_count():
    scene = Scene(idle_timeout=100.0).open()
    for _ in range(9):
        scene.advance(10)
        scene.client.send(up(PING, b"x"))
    assert not any(opcode == CLOSE for _, opcode, _ in frames(scene.client.received))
    scene.advance(30)
    assert frames(scene.host.received)[-1] == (True, CLOSE, close(1008, b"no data for 100 s"))


def test_idle_timeout_leaves_a_busy_session_alone():
    scene = Scene(idle_timeout=100.0, ping_interval=None).open()
    for _ in range(50):
        scene.advance(50)
        scene.client.send(up(2, b"x"))
    assert all(opcode == 2 for _, opcode, _ in frames(scene.host.received))


def test_max_lifetime_ends_even_a_busy_session():
    scene = Scene(max_lifetime=60.0, ping_interval=None).open()
    scene.advance(61)
    assert frames(scene.host.received)[-1] == (True, CLOSE, close(1008, b"the session lasted for 60 s"))


# Keepalive


def test_the_client_is_pinged_and_the_host_is_not(scene):
    scene.advance(26)
    ((_, opcode, payload),) = frames(scene.client.received)
    assert opcode == PING and scene.host.received == b""
    scene.client.send(up(PONG, payload))
    scene.advance(25)
    assert len(frames(scene.client.received)) == 2


def test_the_round_trip_of_the_last_pong_stays_in_the_record(scene):
    scene.advance(25)
    scene.advance(0.5)
    ((_fin, _opcode, payload),) = frames(scene.client.received)
    scene.client.send(up(PONG, payload))
    scene.pump()
    scene.client.close()
    scene.advance(6)
    assert scene.record.round_trip == pytest.approx(0.5)


def test_a_client_that_does_not_answer_a_ping_is_lost(scene):
    scene.advance(46)
    assert scene.client.ended == "aborted"
    assert frames(scene.host.received)[-1][2][:2] == close(1001)
    scene.advance(5)
    assert scene.record.error == "ClientLost" and "ping" in scene.record.detail
    assert scene.at_rest()


def test_pings_keep_their_interval_when_it_is_shorter_than_the_timeout():
    scene = Scene(ping_interval=5.0, ping_timeout=20.0).open()
    for _ in range(6):
        scene.advance(5.05)
        ((_, _, payload),) = frames(scene.client.received)[-1:]
        scene.client.send(up(PONG, payload))
    assert len(frames(scene.client.received)) == 6
    scene.advance(26)
    assert scene.client.ended == "aborted"


def test_any_byte_is_life(scene):
    for _ in range(20):
        scene.advance(10)
        scene.client.send(up(2, b"key"))
    assert not scene.recorder.records


def test_no_clock_runs_while_we_do_not_read_from_the_client(scene):
    scene.host.block()
    scene.client.send(up(2, b"p" * 200_000), 65536)
    scene.advance(55)
    assert not scene.recorder.records
    scene.host.unblock()
    scene.advance(10)
    assert not scene.recorder.records


def test_upstream_pings_are_sent_when_configured():
    scene = Scene(upstream_ping_interval=30.0, ping_interval=None).open()
    scene.advance(31)
    assert [opcode for _, opcode, _ in frames(scene.host.received)] == [PING]
    scene.advance(21)
    assert scene.host.ended == "aborted"
    assert frames(scene.client.received)[-1][2][:2] == close(1011)


def test_the_record_counts_the_relayed_bytes(scene):
    scene.client.send(up(2, b"x" * 10))
    scene.host.send(frame(2, b"y" * 20))
    scene.pump()
    scene.client.close()
    scene.host.close()
    scene.pump()
    record = scene.record
    assert (record.status, record.octets_up, record.octets_down) == (101, 16, 22)
    assert record.target == "/ticket/***" and record.upstream == "esxi1" and record.principal == "anybody"
    assert list(record.phases) == ["authenticated", "routed", "opened", "closed"]

"""The relay: closing handshakes, lost legs and malformed frames."""

import pytest

from tests.net.scene import Scene, close, frame, frames, opening, up

CLOSE, PING = 8, 9
BIG = 70_000


@pytest.fixture
def scene():
    return Scene().open()


@pytest.mark.parametrize(
    "payload", [b"", close(1000), close(1001), close(3000, b"x"), close(4999, "é".encode())]
)
def test_a_close_of_the_client_is_carried_through(scene, payload):
    scene.client.send(up(CLOSE, payload))
    scene.pump()
    assert frames(scene.host.received) == [(True, CLOSE, payload)]
    assert scene.client.received == b""
    scene.host.send(frame(2, b"last picture") + frame(CLOSE, payload))
    scene.pump()
    assert frames(scene.client.received) == [(True, 2, b"last picture"), (True, CLOSE, payload)]
    assert scene.client.ended == "lost"
    scene.host.close()
    scene.pump()
    assert scene.at_rest()
    assert (scene.record.ended_by, scene.record.error) == ("client", "")


@pytest.mark.parametrize("payload", [b"", close(1000), close(1011, b"gone"), close(1014, b"bad gateway")])
def test_a_close_of_the_host_is_carried_through(scene, payload):
    scene.host.send(frame(CLOSE, payload))
    scene.pump()
    assert frames(scene.client.received) == [(True, CLOSE, payload)]
    scene.client.send(up(2, b"last key") + up(CLOSE, payload))
    scene.pump()
    assert frames(scene.host.received) == [(True, 2, b"last key"), (True, CLOSE, payload)]
    scene.client.close()
    scene.host.close()
    scene.pump()
    assert scene.at_rest()
    assert scene.record.ended_by == "upstream"


def test_nothing_behind_a_close_is_forwarded(scene):
    scene.client.send(up(CLOSE, close(1000)) + up(2, b"too late"))
    scene.pump()
    assert frames(scene.host.received) == [(True, CLOSE, close(1000))]


def test_a_host_that_sends_close_and_keeps_tcp_open_is_aborted_in_time(scene):
    scene.host.send(frame(CLOSE, close(1000)))
    scene.pump()
    scene.client.send(up(CLOSE, close(1000)))
    scene.pump()
    scene.client.close()
    scene.advance(5.2)
    assert scene.host.ended == "aborted" and scene.at_rest()


def test_a_client_that_never_answers_a_close_is_aborted_in_time(scene):
    scene.host.send(frame(CLOSE, close(1000)))
    scene.advance(5.2)
    assert frames(scene.host.received) == [(True, CLOSE, close(1000))]
    assert scene.client.ended == "aborted" and scene.at_rest()


def test_a_client_that_never_reads_is_aborted_in_time(scene):
    scene.client.block()
    scene.host.send(frame(2, b"p" * 1000) * 300, 65536)
    scene.pump()
    scene.host.reset()
    scene.client.unblock(1000)
    scene.pump()
    scene.advance(70)
    assert scene.at_rest()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_lost_client_is_reported_upstream_with_1001(scene, how):
    getattr(scene.client, how)()
    scene.pump()
    assert frames(scene.host.received) == [(True, CLOSE, close(1001, b"the client is gone"))]
    scene.host.send(frame(CLOSE, close(1001)))
    scene.host.close()
    scene.pump()
    assert scene.at_rest() and scene.record.error == "ClientLost"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_lost_host_is_reported_to_the_client_with_1011(scene, how):
    getattr(scene.host, how)()
    scene.pump()
    assert frames(scene.client.received) == [(True, CLOSE, close(1011, b"the host is gone"))]
    scene.client.send(up(CLOSE, close(1011)))
    scene.pump()
    assert scene.at_rest() and scene.record.error == "UpstreamLost"


def test_a_host_lost_within_a_frame_ends_the_clients_connection(scene):
    scene.host.send(frame(2, b"p" * 1000)[:500])
    scene.host.close()
    scene.pump()
    assert scene.client.ended == "lost" and scene.at_rest()
    assert scene.client.received == frame(2, b"p" * 1000)[:500]
    assert "the client was left in the middle of a frame" in scene.record.detail


def test_data_queued_before_a_host_is_lost_in_a_frame_is_delivered():
    scene = Scene()
    scene.client.send(opening())
    scene.pump()
    scene.accept(extra=frame(2, b"whole") + frame(2, b"p" * 1000)[:500])
    scene.host.close()
    scene.host.pump(), scene.host.pump()
    assert scene.client.received == b"" and scene.host.ended
    scene.pump()
    assert scene.client.received.endswith(frame(2, b"whole") + frame(2, b"p" * 1000)[:500])
    assert scene.at_rest()


def test_a_host_that_dies_between_fragments_does_not(scene):
    scene.host.send(frame(2, b"p" * 1000, fin=False))
    scene.host.close()
    scene.pump()
    assert frames(scene.client.received)[-1][1] == CLOSE


# Faults


BAD = {
    "rsv": (up(2, b"x", rsv=4), 1002),
    "reserved data opcode": (up(3, b"x"), 1002),
    "reserved control opcode": (up(11, b"x"), 1002),
    "unmasked": (frame(2, b"x"), 1002),
    "unmasked ping": (frame(PING, b"x"), 1002),
    "fragmented ping": (up(PING, b"x", fin=False), 1002),
    "ping of 126 bytes": (up(PING, b"x" * 126), 1002),
    "ping with rsv": (up(PING, b"x", rsv=2), 1002),
    "length not in its shortest form": (b"\x82\xfe\x00\x05aaaahello", 1002),
    "continuation of nothing": (up(0, b"x"), 1002),
    "message inside of a message": (up(2, b"x", fin=False) + up(2, b"y"), 1002),
    "close with 1 byte": (up(CLOSE, b"x"), 1002),
    "close code 999": (up(CLOSE, close(999)), 1002),
    "close code 1005": (up(CLOSE, close(1005)), 1002),
    "close code 1006": (up(CLOSE, close(1006)), 1002),
    "close code 1015": (up(CLOSE, close(1015)), 1002),
    "close code 2999": (up(CLOSE, close(2999)), 1002),
    "close reason no UTF-8": (up(CLOSE, close(1000, b"\xff\xfe")), 1007),
}


@pytest.mark.parametrize(("bad", "code"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("chunk", [None, 1])
def test_a_client_fault_is_answered_after_the_frames_before_it(scene, bad, code, chunk):
    scene.client.send(up(2, b"good") + bad + up(2, b"unread"), chunk)
    scene.pump()
    got = frames(scene.host.received)
    assert got[0] == (True, 2, b"good")
    assert got[-1][1] == CLOSE and got[-1][2][:2] == close(1001)
    assert not any(payload == b"unread" for _, _, payload in got)
    scene.host.send(frame(2, b"last") + frame(CLOSE, close(1001)))
    scene.pump()
    answer = frames(scene.client.received)
    assert answer[0] == (True, 2, b"last")
    assert answer[1][1] == CLOSE and answer[1][2][:2] == close(code)
    assert scene.client.transport.half_closed
    scene.host.close()
    scene.advance(5.2)
    assert scene.at_rest()
    assert scene.record.ended_by == "client"
    assert scene.record.error == ("InvalidPayload" if code == 1007 else "ProtocolViolation")


def test_a_masked_frame_of_the_host_is_its_fault(scene):
    scene.host.send(up(2, b"x"))
    scene.pump()
    assert frames(scene.client.received)[0][2][:2] == close(1011)
    scene.client.send(up(CLOSE, close(1011)))
    scene.pump()
    assert frames(scene.host.received)[0] == (True, CLOSE, close(1002, b"masked server frame"))


def test_max_frame_is_1009():
    scene = Scene(max_frame=1000).open()
    scene.client.send(up(2, b"x" * 1001))
    scene.advance(5.2)
    assert frames(scene.client.received)[0][2][:2] == close(1009)
    assert scene.record.error == "FrameTooBig"

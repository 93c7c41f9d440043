"""A trace shows frame headers, does not change the traffic, and ends."""

import pytest

from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.ops.manhole.commands import CommandError
from esxiproxy.ops.manhole.trace import FrameHeader, TracingWalker
from tests.net.scene import close, frame, frames, up
from tests.ops.test_commands import opened

SECRET = b"my password is swordfish"


def said(desk):
    """Return the shown frames without times and padding."""
    return [" ".join(line.split()[1:]) for line in desk.lines]


def traced():
    """Return the shell of an operator who traces an open session."""
    desk = opened()
    desk.commands.trace(desk.id)
    return desk


def test_both_directions_are_shown_by_header():
    desk = traced()
    desk.scene.client.send(up(2, SECRET) + up(1, SECRET, fin=False) + up(0, SECRET))
    desk.scene.pump()
    desk.scene.host.send(frame(2, b"x" * 70000))
    desk.scene.pump()
    assert said(desk) == [
        "client > upstream binary fin 24 masked",
        "client > upstream text ... 24 masked",
        "client > upstream continuation fin 24 masked",
        "upstream > client binary fin 70000",
    ]


def test_neither_payload_nor_mask_key_is_shown():
    desk = traced()
    desk.scene.client.send(up(2, SECRET) + up(9, SECRET))
    desk.scene.pump()
    shown = "\n".join(desk.lines)
    assert "swordfish" not in shown and "01020304" not in shown and "\\x01" not in shown


def test_the_time_counts_from_the_start_of_the_trace():
    desk = opened()
    desk.scene.advance(5)
    desk.commands.trace(desk.id)
    desk.scene.advance(1.5)
    desk.scene.client.send(up(2))
    desk.scene.pump()
    assert desk.lines[0].split()[0] == "+1.500"


def test_control_frames_are_shown_with_the_proxy_at_one_end():
    desk = traced()
    desk.scene.client.send(up(9, b"abc"))
    desk.scene.host.send(frame(10, b"abcd"))
    desk.scene.pump()
    assert said(desk) == [
        "client > proxy ping fin 3 masked",
        "proxy > client pong fin 3",
        "upstream > proxy pong fin 4",
    ]


def test_a_control_frame_received_byte_by_byte_is_shown_once():
    desk = traced()
    desk.scene.client.send(up(9, b"abc"), chunk=1)
    desk.scene.host.send(frame(9, b"abc"), chunk=1)
    desk.scene.pump()
    assert sorted(line for line in said(desk) if "ping" in line) == [
        "client > proxy ping fin 3 masked",
        "upstream > proxy ping fin 3",
    ]


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_a_trace_that_starts_within_a_frame_does_not_change_the_traffic(chunk):
    desk = opened()
    sent = [up(2, bytes(range(200))), up(1, b"a" * 70000, fin=False), up(0, b"b"), up(2)]
    octets = b"".join(sent)
    desk.scene.client.send(octets[:50], chunk)
    desk.scene.pump()
    desk.commands.trace(desk.id, frames=2)
    desk.scene.client.send(octets[50:], chunk)
    desk.scene.pump()
    assert desk.scene.host.received == octets
    assert said(desk)[:2] == [
        "client > upstream text ... 70000 masked",
        "client > upstream continuation fin 1 masked",
    ]
    assert desk.lines[2] == "trace ended after 2 frames: limit of frames reached"


def test_the_end_of_a_trace_restores_the_walker_and_cancels_the_timer():
    desk = opened(ping_interval=None)
    timers = desk.scene.clock.getDelayedCalls()[:]
    legs = next(iter(desk.scene.sessions)).relay.legs.values()
    desk.commands.trace(desk.id, frames=1)
    assert all(type(leg.walker) is TracingWalker for leg in legs)
    assert desk.commands.running_traces == 1
    desk.scene.client.send(up(2, b"x") + up(2, b"y"))
    desk.scene.pump()
    assert all(type(leg.walker) is FrameWalker and leg.on_control_written is None for leg in legs)
    assert (desk.commands.running_traces, desk.idle) == (0, 1)
    assert desk.scene.clock.getDelayedCalls() == timers
    assert len(desk.lines) == 2
    desk.scene.client.send(up(3))
    desk.scene.pump()
    assert [opcode for _, opcode, _ in frames(desk.scene.host.received)] == [2, 2, 8]


def test_a_trace_ends_after_its_duration():
    desk = opened()
    desk.commands.trace(desk.id, seconds=2.5)
    desk.scene.advance(2.4)
    assert not desk.lines
    desk.scene.advance(0.2)
    assert desk.lines == ["trace ended after 0 frames: limit of 2.5 s reached"]


def test_untrace_ends_a_trace():
    desk = opened()
    shown = desk.commands.trace(desk.id)
    assert f"untrace('{desk.id}')" in shown and "100 frames or 60 s" in shown
    desk.commands.untrace(desk.id[:4])
    assert desk.lines == ["trace ended after 0 frames: stopped by untrace()"]
    with pytest.raises(CommandError, match="this shell traces no session"):
        desk.commands.untrace(desk.id)


def test_a_trace_ends_with_its_session_and_shows_the_close():
    desk = traced()
    desk.scene.client.send(up(8, close(1000)))
    desk.scene.pump()
    desk.scene.host.send(frame(8, close(1000)))
    desk.scene.host.close()
    desk.scene.pump()
    desk.scene.advance(1.1)
    assert said(desk)[:4] == [
        "client > proxy close fin 2 masked",
        "proxy > upstream close fin 2 masked",
        "upstream > proxy close fin 2",
        "proxy > client close fin 2",
    ]
    assert desk.lines[4] == "trace ended after 4 frames: the session has ended"


def test_a_trace_ends_when_its_operator_disconnects():
    desk = traced()
    desk.commands.stop_traces()
    assert desk.commands.running_traces == 0 and desk.lines[-1].endswith("the operator has disconnected")


def test_a_fault_is_shown_by_its_name():
    desk = traced()
    desk.scene.client.send(up(3, b"x"))
    desk.scene.pump()
    assert said(desk)[0] == "client > proxy ProtocolViolation: reserved opcode 3"


def test_a_session_has_one_trace_at_a_time():
    desk = traced()
    with pytest.raises(CommandError, match="already being traced"):
        desk.commands.trace(desk.id)
    assert "traced      yes" in desk.commands.session(desk.id)


@pytest.mark.parametrize("bounds", [{"frames": 0}, {"frames": 10**6}, {"seconds": 0}, {"seconds": 1e9}])
def test_the_frames_and_seconds_of_a_trace_are_bounded(bounds):
    desk = opened()
    with pytest.raises(CommandError, match="a trace has"):
        desk.commands.trace(desk.id, **bounds)
    assert desk.commands.running_traces == 0


def test_an_error_of_the_terminal_does_not_reach_the_console():
    desk = opened()

    def broken(_line):
        raise OSError("the terminal is gone")

    desk.commands._show = broken
    desk.commands.trace(desk.id)
    desk.scene.client.send(up(2, b"still here"))
    desk.scene.pump()
    assert frames(desk.scene.host.received) == [(True, 2, b"still here")]


def test_a_header_without_the_fin_bit_is_shown_as_unfinished():
    assert str(FrameHeader(1, False, 5, True)).split() == ["text", "...", "5", "masked"]

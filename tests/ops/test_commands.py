"""The manhole's commands for sessions and upstreams."""

import pytest

from esxiproxy.core.routing import Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.ops.manhole.commands import CommandError, Commands
from tests.net.memory import Wire
from tests.net.scene import UPSTREAM, Scene, close, frames, opening, up

SECRET = b"/ticket/cafe1234cafe1234"


class Desk:
    """An operator's commands on a scene, and the lines that ``show`` got."""

    def __init__(self, scene, *configured):
        self.scene = scene
        self.lines = []
        self.idle = 0
        self.commands = Commands(
            "'root' with key SHA256:x",
            scene.sessions,
            lambda: configured,
            scene.clock,
            self.lines.append,
            self._idle,
        )

    def _idle(self):
        self.idle += 1

    @property
    def id(self):
        (holder,) = self.scene.sessions
        return holder.session.id


def opened(**limits):
    scene = Scene(**limits)
    scene.client.send(opening(SECRET))
    scene.pump()
    scene.accept()
    scene.pump()
    scene.client.received = scene.host.received = b""
    return Desk(scene)


def test_sessions_is_a_table_with_a_line_for_each():
    desk = opened()
    desk.scene.client.send(up(2, b"x" * 2000))
    desk.scene.advance(24.9)
    desk.scene.client.block()
    desk.scene.advance(1)
    desk.scene.client.unblock()
    desk.scene.advance(0.5)
    ping = next(payload for _, opcode, payload in frames(desk.scene.client.received) if opcode == 9)
    desk.scene.client.send(up(10, ping))
    desk.scene.pump()
    header, line, total = desk.commands.sessions().splitlines()
    assert header.split() == [
        *("id", "worker", "gen", "machine", "listener", "client", "upstream", "age", "bytes", "rtt")
    ]
    assert line.split()[:3] == [desk.id, "0", "0"]
    assert line.split()[4:7] == ["test", "198.51.100.7:40000", "esxi1"]
    assert line.split()[7:] == ["26s", "2.0", "KiB", "1.4", "s"] and total == "1 session"


def test_sessions_says_that_there_are_none():
    assert Desk(Scene()).commands.sessions() == "no sessions"


def test_a_session_whose_upstream_has_not_accepted_is_shown_as_opening():
    scene = Scene()
    scene.client.send(opening(SECRET))
    scene.pump()
    desk = Desk(scene)
    assert "state       opening" in desk.commands.session(desk.id)
    assert desk.id in desk.commands.sessions()
    with pytest.raises(CommandError, match="no frames yet"):
        desk.commands.trace(desk.id)


def test_session_shows_the_details_and_hides_the_ticket():
    desk = opened()
    desk.scene.client.send(up(2, b"x" * 100))
    desk.scene.pump()
    shown = desk.commands.session(desk.id[:6])
    for line in (
        "state       open",
        "listener    test",
        "principal   anybody",
        "target      /ticket/***",
        "upstream    esxi1 ws://192.0.2.10:80",
        "bytes up    106",
        "bytes down  0",
        "blocked     no",
        "traced      no",
    ):
        assert line in shown.splitlines()


def test_no_output_has_the_ticket():
    desk = opened()
    for shown in (
        desk.commands.sessions(),
        desk.commands.session(desk.id),
        desk.commands.upstreams(),
        desk.commands.trace(desk.id),
        repr(desk.commands.names()),
        repr(vars(desk.commands)),
        repr(list(desk.scene.sessions)),
    ):
        assert "cafe1234" not in shown


def test_control_characters_in_a_name_are_escaped():
    scene = Scene(upstream=Upstream("\x1b]0;owned\x07", "192.0.2.10", 80, secure=False))
    scene.client.send(opening(SECRET))
    scene.pump()
    desk = Desk(scene)
    for shown in (desk.commands.sessions(), desk.commands.session(desk.id), desk.commands.upstreams()):
        assert "\x1b" not in shown and "\x07" not in shown and "\\x1b]0;owned" in shown


def test_close_ends_a_console_with_1008_and_the_reason():
    desk = opened()
    assert desk.commands.close(desk.id, "maintenance at noon") == f"session {desk.id} is being closed"
    desk.scene.pump()
    expected = (True, 8, close(1008, b"maintenance at noon"))
    assert frames(desk.scene.client.received) == [expected] == frames(desk.scene.host.received)
    desk.scene.advance(10)
    assert desk.scene.record.error == "Killed" and desk.scene.record.ended_by == "proxy"
    assert desk.scene.at_rest()


def test_close_before_the_101_refuses_the_client():
    scene = Scene()
    scene.client.send(opening(SECRET))
    scene.pump()
    desk = Desk(scene)
    desk.commands.close(desk.id)
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 5")
    scene.client.close()
    scene.pump()
    assert scene.record.error == "Killed"


@pytest.mark.parametrize("wrong", ["nobody", "", None])
def test_an_unknown_id_is_a_command_error(wrong):
    desk = opened()
    for command in (desk.commands.session, desk.commands.close, desk.commands.trace):
        with pytest.raises(CommandError, match="no session"):
            command(wrong)
    assert len(desk.scene.sessions) == 1


def test_the_prefix_of_an_id_must_be_unique(monkeypatch):
    names = iter(["aa11", "aa22"])
    monkeypatch.setattr("esxiproxy.net.listener.dispatch.session_id", lambda: next(names))
    desk = opened()
    second = Wire(desk.scene.factory.buildProtocol(None))
    second.send(opening(SECRET))
    second.pump()
    with pytest.raises(CommandError, match="2 sessions begin with 'aa'"):
        desk.commands.close("aa")
    assert desk.commands.session("aa2").startswith("session     aa22")


def test_upstreams_lists_those_configured_and_those_in_use():
    pin = Pin("sha256", "ab" * 32)
    spare = Upstream("esxi2", "2001:db8::2", 443, secure=True, verify=Verify.PIN, pins=(pin,))
    desk = Desk(opened().scene, UPSTREAM, spare)
    header, first, second = desk.commands.upstreams().splitlines()
    assert header.split() == ["upstream", "url", "verify", "sessions", "bytes"]
    assert first.split() == ["esxi1", "ws://192.0.2.10:80", "-", "1", "0"]
    assert second.split() == ["esxi2", "wss://[2001:db8::2]:443", "pin", "0", "0"]
    assert Desk(Scene()).commands.upstreams() == "no upstreams"


def test_help_has_a_line_for_every_command():
    commands = Desk(Scene()).commands
    for name in commands.names():
        assert f"\n{name}(" in f"\n{commands.help()}"


def test_output_is_shown_without_quotes():
    commands = Desk(Scene()).commands
    assert repr(commands.help()) == str(commands.help())

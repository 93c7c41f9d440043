"""Open consoles are published to all processes, and can be ended by a command of another process."""

from functools import partial

import pytest

from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.net.session_publisher import SessionPublisher
from esxiproxy.state.memory import Memory, MemoryState
from tests.net.scene import Scene, close, frames


class Listed(Scene):
    """A scene with published sessions, and another process that reads the list."""

    def __init__(self):
        super().__init__()
        memory = Memory()
        self.state, self.other = (MemoryState(self.clock, memory) for _ in range(2))
        roster = SessionPublisher(self.state, self.clock.seconds, "proxy-a")
        self.sessions._observers += (roster,)
        self.state.start(partial(roster.execute, sessions=self.sessions))

    def listed(self):
        outcome = []
        self.other.sessions().addCallback(outcome.extend)
        return outcome


def test_a_console_is_listed_while_it_is_open():
    scene = Listed()
    assert scene.listed() == []
    scene.open()
    (entry,) = scene.listed()
    (session,) = (holder.session for holder in scene.sessions)
    assert entry == SessionEntry(
        session.id,
        scene.state.instance_id,
        "test",
        "198.51.100.7:40000",
        "anybody",
        "/ticket/***",
        "esxi1",
        0.0,
        "esxi1",
        "authenticator",
        address="192.0.2.10",
        address_name="192.0.2.10",
        machine="proxy-a",
    )
    scene.client.reset()
    scene.pump()
    scene.advance(6)
    assert scene.listed() == []


@pytest.mark.parametrize(
    ("verb", "payload", "error"),
    [
        (CommandKind.KILL, close(1008, b"at noon"), "Killed"),
        (CommandKind.DRAIN, close(1001, b"at noon"), "Draining"),
    ],
)
def test_another_process_ends_a_console(verb, payload, error):
    scene = Listed()
    scene.open()
    (entry,) = scene.listed()
    scene.other.tell(Command(verb, entry.session, "at noon"))
    scene.advance(0.1)
    assert frames(scene.client.received) == [(True, 8, payload)]
    scene.advance(6)
    assert scene.record.error == error


def test_a_command_for_an_ended_session_is_ignored():
    scene = Listed()
    SessionPublisher(scene.state).execute(Command(CommandKind.KILL, "gone"), scene.sessions)


@pytest.mark.parametrize(
    ("kind", "value", "ends"),
    [
        (SelectorKind.PRINCIPAL, "anybody", True),
        (SelectorKind.PRINCIPAL, "alice", False),
        (SelectorKind.UPSTREAM, "esxi1", True),
        (SelectorKind.UPSTREAM, "esxi2", False),
        (SelectorKind.LISTENER, "test", True),
        (SelectorKind.LISTENER, "other", False),
        (SelectorKind.HOST, "elsewhere.example", False),
        (SelectorKind.ALL, "", True),
    ],
)
def test_another_process_ends_the_consoles_of_a_selector(kind, value, ends):
    scene = Listed()
    scene.open()
    scene.other.tell(Command(CommandKind.KILL, reason="at noon", selector=Selector(kind, value)))
    scene.advance(0.1)
    assert frames(scene.client.received) == ([(True, 8, close(1008, b"at noon"))] if ends else [])


def test_a_selector_finds_the_host_in_any_case():
    scene = Listed()
    scene.open()
    (live,) = scene.sessions
    assert Selector(SelectorKind.HOST, live.session.route.upstream.host.upper()).selects(live.session)
    live.session.route = None
    assert not Selector(SelectorKind.UPSTREAM, "esxi1").selects(live.session)


@pytest.mark.parametrize(
    ("section", "ends"), [("router", True), ("authenticator", True), ("router b", False)]
)
def test_a_plugin_ends_its_own_consoles_only(section, ends):
    """Another plugin may know a host or a user of the same name."""
    scene = Listed()
    scene.open()
    command = Command(CommandKind.KILL, reason="gone", selector=Selector(SelectorKind.ALL))
    SessionPublisher(scene.state).execute(command, scene.sessions, section)
    scene.pump()
    assert frames(scene.client.received) == ([(True, 8, close(1008, b"gone"))] if ends else [])

"""Commands for all sessions that a selector selects, with each implementation."""

from contextlib import closing

import pytest

from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from tests.state.world import SqliteWorld
from tests.support.logs import process_log
from tests.support.outcome import result

ALICE = Command(CommandKind.KILL, reason="at noon", selector=Selector(SelectorKind.PRINCIPAL, "corp:alice"))

_NEWER = ('["kill", "planet:mars", ""]', '["pause", "x", ""]', '["kill", "all:", "", 1]', "{", "7")


def test_a_command_with_a_selector_reaches_every_process(world):
    states = [world.new() for _ in range(3)]
    assert result(states[0].tell(ALICE)) is True
    assert world.obeyed == []
    world.advance(2)
    assert sorted(world.obeyed, key=str) == sorted(((s.instance_id, ALICE) for s in states), key=str)
    world.advance(5)
    assert len(world.obeyed) == 3


@pytest.mark.parametrize("kind", SelectorKind)
def test_every_selector_is_read_as_it_was_written(kind):
    command = Command(CommandKind.DRAIN, reason="r", selector=Selector(kind, "a:b"))
    assert Command.from_fields(*command.fields()) == command


def test_a_replacement_has_the_time_at_which_it_was_sent():
    command = Command(CommandKind.REPLACE, selector=Selector(SelectorKind.LINK, "link-1"), sent=12.5)
    assert command.fields() == ["replace", "link:link-1", "12.5"]
    assert Command.from_fields(*command.fields()) == command
    assert Command.from_fields("replace", "link:link-1", "").sent == float("inf")


def test_an_older_version_reads_three_texts(tmp_path):
    assert ALICE.fields() == ["kill", "principal:corp:alice", "at noon"]
    assert Command(CommandKind.KILL, "0a1b", "r").fields() == ["kill", "0a1b", "r"]


def test_a_command_of_a_newer_version_is_ignored(tmp_path):
    world = SqliteWorld(tmp_path)
    state = world.new()
    with closing(world.another_program()) as other:
        for text in _NEWER:
            row = (state.instance_id, text, 1e12)
            other.execute("INSERT INTO commands (holder, command, expires) VALUES (?, ?, ?)", row)
    result(state.tell(ALICE))
    world.advance(2)
    assert world.obeyed == [(state.instance_id, ALICE)]


def test_a_fatal_exception_of_one_command_does_not_keep_the_next(tmp_path, monkeypatch):
    world = SqliteWorld(tmp_path)
    state, got = world.new(), []

    def execute(command):
        got.append(command)
        raise SystemExit

    monkeypatch.setattr(state, "_execute", execute)
    for _ in range(2):
        result(state.tell(ALICE))
    with process_log() as log:
        world.advance(2)
    assert got == [ALICE, ALICE] and len(log) == 2
    assert all("executing a command" in line for line in log)

"""Drains in the shared state: other processes, unreachable states and invalid values."""

import asyncio
from unittest.mock import Mock

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from tests.net.drain_objects import every_kind, fleet, is_refused
from tests.net.drain_scene import DAY, BrokenState, World, closes_of
from tests.net.opening_scene import status
from tests.net.scene import close
from tests.support.logs import process_log


def just_undrained_elsewhere():
    """Return a process whose drain another one has removed a moment before its end, and its console."""
    world = World()
    state = BrokenState(world.clock, world.memory)
    process, other = world.process(state=state), world.process()
    running = process.open()
    other.drain("host", "esxi1", end=DAY + 10)
    process.advance(9.5)
    assert is_refused(process)
    other.undrain("host", "esxi1")
    return process, running


def test_a_drain_that_another_process_has_just_removed_ends_nothing():
    process, running = just_undrained_elsewhere()
    process.advance(5)
    assert closes_of(running) == [] and not is_refused(process)


def test_another_request_ends_nothing_before_the_drains_are_read():
    process, running = just_undrained_elsewhere()
    process.state.late = Deferred()
    process.advance(1)
    process.drain("host", "other")
    late, process.state.late = process.state.late, None
    late.callback(None)
    process.advance(5)
    assert closes_of(running) == []


def test_a_drain_that_ends_at_once_needs_no_read():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    running = process.open()
    state.late = Deferred()
    process.advance(1)
    state.late, late = None, state.late
    process.drain("host", "esxi1", end=DAY)
    process.advance(0.2)
    assert len(closes_of(running)) == 1
    late.callback(None)


def test_the_end_follows_a_slow_read():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    running = process.open()
    process.drain("host", "esxi1", end=DAY + 5)
    process.advance(4.5)
    state.late = late = Deferred()
    process.advance(2)
    assert closes_of(running) == []
    state.late = None
    late.callback(None)
    process.advance(0.2)
    assert len(closes_of(running)) == 1


@every_kind
def test_another_process_of_the_master_drains_within_a_second(what):
    world = World()
    first, second = world.process(), world.process()
    running = second.open()
    first.drain(*what, end=DAY + 30)
    assert is_refused(first)
    second.advance(1.1)
    assert is_refused(second)
    assert second.proxy.drains.drains() == first.proxy.drains.drains()
    second.advance(30)
    assert len(closes_of(running)) == 1
    second.undrain(*what)
    first.advance(1.1)
    assert not is_refused(first)


@every_kind
def test_a_process_that_starts_again_is_drained_before_its_first_console(what):
    world = World()
    first = world.process()
    first.drain(*what)
    first.stop()
    again = world.process()
    assert is_refused(again)


@pytest.mark.parametrize("other", [ProcessIdentity("proxy1", "run-2"), ProcessIdentity("proxy2", "run-2")])
def test_a_listener_is_drained_for_its_machine_and_its_master_only(other):
    world = World()
    first, second = world.process(), world.process(other)
    first.drain("listener", "one")
    first.drain("proxy")
    second.advance(1.1)
    assert not is_refused(second) and is_refused(first)
    assert len(second.proxy.drains.drains()) == 2
    assert second.undrain("listener", "one") == []
    second.advance(1.1)
    assert is_refused(first)


@pytest.mark.parametrize("what", [("upstream", "esxi1"), ("host", "esxi1")])
def test_a_host_is_drained_on_all_machines(what):
    world = World()
    first, second = world.process(), world.process(ProcessIdentity("proxy2", "run-2"))
    first.drain(*what)
    second.advance(1.1)
    assert is_refused(second)


# The state


def test_while_the_state_is_unreachable_the_last_drains_hold():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process, other = world.process(state=state), world.process()
    running = process.open()
    other.drain("host", "esxi1", end=DAY + 10)
    process.advance(1.1)
    state.is_broken = True
    other.undrain("host", "esxi1")
    with process_log() as log:
        process.advance(5)
        assert is_refused(process)
        process.advance(5)
        assert len(closes_of(running)) == 1, "the end needs no state"
        state.is_broken = False
        process.advance(1.1)
    assert not is_refused(process)
    assert str(log).count("drains cannot be read from the shared state") == 1
    assert str(log).count("drains are read from the shared state again") == 1


def test_a_drain_that_cannot_be_stored_does_not_hold():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    state.is_broken = True
    with pytest.raises(StateUnavailable):
        process.drain("host", "esxi1")
    assert not is_refused(process)


def test_the_first_console_waits_until_the_drains_are_read():
    world = World()
    world.process().drain("listener", "one")
    state = BrokenState(world.clock, world.memory)
    state.late = late = Deferred()
    process = world.process(state=state)
    first, lost = process.begin(), process.begin()
    assert (first.received, process.router.asked) == (b"", 0)
    lost.reset()
    process.pump()
    state.late = None
    late.callback(None)
    process.pump()
    assert status(first.received) == 503 and process.router.asked == 0
    assert [record.error for record in process.recorder.records] == ["ClientLost", "Draining"]


def test_without_an_answer_the_first_console_is_admitted_after_some_seconds():
    world = World()
    state = BrokenState(world.clock, world.memory)
    state.late = Deferred()
    process = world.process(state=state)
    process.begin()
    process.advance(4.5)
    assert process.connector.dialled_hosts == []
    process.advance(1)
    assert process.connector.dialled_hosts == ["192.0.2.10"]


def test_a_state_that_cannot_be_read_refuses_no_console_by_itself():
    world = World()
    state = BrokenState(world.clock, world.memory)
    state.is_broken = True
    process = world.process(state=state)
    process.begin()
    assert process.connector.dialled_hosts == ["192.0.2.10"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
def test_any_exception_of_a_read_is_logged_and_the_last_known_drains_end_their_consoles(error, monkeypatch):
    process = World().process()
    running = process.open()
    process.drain("host", "esxi1", end=DAY + 3)
    with monkeypatch.context() as broken, process_log() as log:
        broken.setattr(process.proxy.drains._table, "items", Mock(side_effect=error))
        process.advance(4.5)
    assert closes_of(running) == [close(1001, b"draining")]
    assert any("the last known ones hold" in line for line in log)
    process.undrain("host", "esxi1")
    process.advance(1.1)
    assert not is_refused(process)


def test_a_read_that_began_before_a_drain_does_not_undo_it():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    state.late = late = Deferred()
    process.advance(1)
    state.late = None
    process.drain("host", "esxi1")
    state.items, items = (lambda *_args: Deferred()), state.items
    late.callback(None)
    state.items = items
    assert is_refused(process)


BROKEN = ["{", '{"kind": "cloud", "name": "a", "since": 1}', '{"kind": "host", "since": 1}']


def test_an_invalid_value_is_ignored_and_logged_once():
    world = World()
    process = world.process()
    process.drain("host", "esxi1")
    with process_log() as log:
        for number, value in enumerate(BROKEN):
            process.state.put("drains", f"broken {number}", value, DAY + 1e6)
        process.advance(5)
    assert is_refused(process) and len(process.proxy.drains.drains()) == 1
    assert str(log).count("a drain in the shared state is ignored") == len(BROKEN)


def test_more_drains_than_a_page_hold():
    world = World()
    first, second = world.process(), world.process()
    first.drain("host", "other0")
    found = []
    first.state.items("drains", "", 9).addCallback(found.extend)
    ((key, value),) = found
    for number in range(1, 1100):
        name = f"other{number}"
        first.state.put("drains", key.replace("other0", name), value.replace("other0", name), DAY + 1e6)
    first.drain("host", "zzz")
    second.router.answer = fleet("192.0.2.1", name="ZZZ")
    second.advance(1.1)
    assert is_refused(second) and len(second.proxy.drains.drains()) == 1101


def test_at_rest_nothing_is_parsed_again():
    world = World()
    process = world.process()
    process.drain("host", "esxi1")
    process.advance(2)
    before = process.proxy.drains.current
    process.advance(5)
    assert process.proxy.drains.current is before


def test_no_secret_is_logged():
    process = World().process()
    with process_log() as log:
        process.drain("host", "esxi1", reason="see wss://esxi1/ticket/abcdef0123", by="token=geheim")
    assert "abcdef0123" not in str(log) and "geheim" not in str(log)
    assert "host esxi1 is drained" in str(log)


def test_a_process_that_has_stopped_has_no_timers():
    world = World()
    process = world.process()
    process.drain("host", "esxi1", end=DAY + 1000)
    process.stop()
    assert world.clock.getDelayedCalls() == []


def test_a_read_that_is_under_way_at_the_stop_is_given_up():
    world = World()
    state = BrokenState(world.clock, world.memory)
    process = world.process(state=state)
    state.late = Deferred()
    process.advance(1.1)
    with process_log() as log:
        process.stop()
    assert "drains" not in str(log) and world.clock.getDelayedCalls() == []

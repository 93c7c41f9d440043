"""Drains of one machine end with its master; those of a machine that is named reach all masters there."""

import json
import sqlite3
from dataclasses import replace

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.drain import Drain, DrainKind, InvalidDrain, drain_key
from esxiproxy.core.session.drain_table import PAGE, RUN_LIFE, UnknownMachine
from esxiproxy.net.admission.drains import NOTE_INTERVAL
from esxiproxy.state.sqlite import SqliteState
from esxiproxy.state.times import Times
from tests.net.drain_scene import DAY, HERE, World
from tests.net.opening_scene import status
from tests.state.world import Immediate
from tests.support.logs import process_log

AGAIN = replace(HERE, run="run-2")
ELSEWHERE = ProcessIdentity("proxy2", "run-9")


def admits(process):
    client = process.begin()
    refused = client.received.startswith(b"HTTP/1.1 503 ")
    client.reset()
    process.pump()
    return not refused


def stored(world):
    """Return the drains in the shared memory by kind, name and run."""
    return {(kind, name, run) for kind, name, run in map(_parts, world.memory.items.get("drains", ()))}


def _parts(key):
    kind, _machine, run, name = json.loads(key)
    return kind, name, run


def next_master(world):
    """Return the master after one that has ended with three drains."""
    first = world.process()
    first.drain("proxy")
    first.drain("listener", "one")
    first.drain("host", "other")
    first.stop()
    return world.process(AGAIN)


def test_the_next_master_of_a_machine_is_not_drained():
    world = World()
    again = next_master(world)
    assert admits(again)
    assert len(again.proxy.drains.drains()) == 3


def test_the_drains_of_a_master_that_has_ended_are_removed_and_those_of_hosts_stay():
    world = World()
    again = next_master(world)
    again.drain("listener", "two")
    with process_log() as log:
        again.advance(RUN_LIFE + 2 * NOTE_INTERVAL + 2)
    assert stored(world) == {("host", "other", ""), ("listener", "two", "run-2")}
    assert str(log).count("its master has ended") == 2


def test_the_drains_of_masters_that_run_stay():
    world = World()
    first, second, elsewhere = world.process(), world.process(AGAIN), world.process(ELSEWHERE)
    first.drain("proxy")
    elsewhere.drain("listener", "one")
    second.advance(3 * RUN_LIFE)
    assert stored(world) == {("proxy", "", "run-1"), ("listener", "one", "run-9")}
    assert not admits(first) and admits(second) and not admits(elsewhere)


def test_workers_of_a_new_generation_keep_the_drain_of_their_master():
    world = World()
    old = world.process()
    old.drain("proxy")
    new = world.process()
    old.stop()
    new.advance(3 * RUN_LIFE)
    assert stored(world) == {("proxy", "", "run-1")} and not admits(new)


@pytest.mark.parametrize("what", [("proxy", ""), ("listener", "one")], ids=["proxy", "listener"])
@pytest.mark.parametrize("machine", ["", "renamed", "proxy1"], ids=["unnamed", "new name", "old name"])
def test_a_drain_goes_on_when_its_machine_gets_another_name(what, machine):
    """The workers of a reload have the new name, and the run of their master."""
    world = World()
    old = world.process()
    old.drain(*what)
    new = world.process(replace(HERE, machine="renamed"))
    old.stop()
    new.advance(3 * RUN_LIFE)
    assert stored(world) == {(*what, "run-1")} and not admits(new)
    assert len(new.undrain(*what, machine=machine)) == 1
    assert admits(new) and stored(world) == set()


def test_a_drain_under_the_new_name_of_a_machine_replaces_the_one_before():
    world = World()
    old, new = world.process(), world.process(replace(HERE, machine="renamed"))
    elsewhere = world.process(ELSEWHERE)
    old.drain("proxy"), elsewhere.drain("proxy")
    new.advance(1.1)
    (drain,) = new.drain("proxy", by="alice")
    assert [each.by for each in new.proxy.drains.drains() if each.run == "run-1"] == ["alice"]
    new.advance(1.1)
    old.advance(1.1)
    for process in (old, new):
        assert [each for each in process.proxy.drains.drains() if each.run == "run-1"] == [drain]
    new.undrain("proxy")
    old.advance(1.1)
    assert admits(old) and admits(new) and not admits(elsewhere)


def test_a_machine_that_is_named_is_drained_from_another_one():
    world = World()
    here, elsewhere = world.process(), world.process(ELSEWHERE)
    (drain,) = here.drain("proxy", machine="PROXY2", by="alice")
    assert (drain.machine, drain.run) == ("proxy2", "run-9")
    elsewhere.advance(1.1)
    assert admits(here) and not admits(elsewhere)
    assert here.undrain("proxy") == []
    assert here.undrain("proxy", machine="proxy2") == [drain]
    elsewhere.advance(1.1)
    assert admits(elsewhere)


def test_all_masters_of_a_machine_that_is_named_are_drained():
    world = World()
    first, second = world.process(), world.process(AGAIN)
    drains = first.drain("listener", "one", machine="proxy1")
    assert {drain.run for drain in drains} == {"run-1", "run-2"}
    second.advance(1.1)
    assert not admits(first) and not admits(second)
    assert len(second.undrain("listener", "one", machine="proxy1")) == 2
    assert admits(second)


def test_a_machine_without_a_proxy_is_an_error():
    process = World().process()
    with pytest.raises(UnknownMachine, match="no proxy that shares the state runs on nowhere"):
        process.drain("proxy", machine="nowhere")
    assert process.proxy.drains.drains() == []


def test_a_host_has_no_machine():
    process = World().process()
    with pytest.raises(InvalidDrain, match="for all machines"):
        process.drain("host", "esxi1", machine="proxy1")


def test_a_proxy_whose_processes_were_away_for_long_stays_drained():
    """The drain was removed in that time, because the proxy could not note that it runs."""
    world = World()
    process = world.process()
    (drain,) = process.drain("proxy")
    world.memory.items["runs"].clear()
    world.memory.items["drains"].clear()
    process.advance(1.1)
    assert not admits(process) and stored(world) == {("proxy", "", "run-1")}
    process.advance(5)
    assert process.proxy.drains.drains() == [drain]
    process.undrain("proxy")
    process.advance(5)
    assert admits(process) and stored(world) == set()


def test_a_proxy_that_is_undrained_elsewhere_is_not_drained_again():
    world = World()
    process, other = world.process(), world.process()
    process.drain("proxy")
    other.advance(1.1)
    other.undrain("proxy")
    process.advance(1.1)
    assert admits(process) and stored(world) == set()


def test_a_page_that_is_full_is_followed_by_the_next():
    world = World()
    process = world.process()
    for number in range(PAGE):
        process.state.put("runs", f"a{number:05}", "proxy3", DAY + 1e6)
    (drain,) = process.drain("proxy", machine="proxy1")
    assert drain.run == "run-1"


# A database


@pytest.fixture
def database(tmp_path):
    """Return a world with the states of two processes with one database."""
    world = World()

    def state():
        reactor = Clock()
        reactor.callFromThread = lambda call, *args: call(*args)
        times = Times("boot", world.clock.seconds, world.time_of_day)
        return SqliteState(tmp_path / "state.db", reactor, Immediate(), times, world.clock)

    world.state = state
    return world


def test_processes_with_one_database_are_drained_together(database):
    world = database
    first, second = world.process(state=world.state()), world.process(state=world.state())
    first.drain("host", "192.0.2.10", end=DAY + 3600, by="alice", reason="Wartung ☕")
    first.drain("proxy")
    second.advance(1.1)
    assert second.proxy.drains.drains() == first.proxy.drains.drains()
    assert status(second.begin().received) == 503
    second.undrain("proxy")
    second.undrain("host", "192.0.2.10")
    first.advance(1.1)
    assert admits(first)


def test_a_drain_in_a_database_outlasts_all_processes(database):
    world = database
    first = world.process(state=world.state())
    (drain,) = first.drain("upstream", "esxi1", end=DAY + 3600)
    first.stop()
    again = world.process(AGAIN, state=world.state())
    assert again.proxy.drains.drains() == [drain] and not admits(again)


def test_a_locked_database_keeps_the_last_drains(database, tmp_path, monkeypatch):
    monkeypatch.setattr("esxiproxy.state.tables.BUSY_TIMEOUT", 0.02)
    world = database
    process = world.process(state=world.state())
    process.drain("host", "esxi1")
    lock = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    process.advance(1.1)
    assert [each.name for each in process.proxy.drains.drains()] == ["esxi1"]
    lock.execute("ROLLBACK")
    lock.execute("DELETE FROM items WHERE space = 'drains'")
    process.advance(3)
    assert process.proxy.drains.drains() == []
    lock.close()


def test_the_key_has_all_that_makes_two_drains_different():
    drain = Drain(DrainKind.LISTENER, "one two", "proxy1", "run-1")
    assert drain_key(drain) == '["listener", "proxy1", "run-1", "one two"]'

"""Each process reports its figures: cheaply without readers, and in few items with readers."""

import json
from collections import Counter

import pytest

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.failure_reports import FAILURES
from esxiproxy.core.session.reports import (
    ADMIN_SPACE,
    FIGURES,
    PROCESSES,
    WATCHED,
    decode_figures,
    newest_figures,
)
from tests.admin.scene import FakeTraffic, Worker
from tests.state.world import MemoryWorld, SqliteWorld
from tests.support.outcome import result


class CountingState:
    """A state that counts its calls by name and space."""

    def __init__(self, state):
        self._state = state
        self.calls = Counter()
        self.longest = 0

    def __getattr__(self, name):
        call = getattr(self._state, name)
        if not callable(call):
            return call

        def counted(*arguments, **more):
            self.calls[(name, arguments[0]) if name in ("put", "get") else (name,)] += 1
            if name == "put":
                self.longest = max(self.longest, len(arguments[2]))
            return call(*arguments, **more)

        return counted


@pytest.fixture
def world(tmp_path):
    return MemoryWorld(tmp_path)


def counted(worker):
    """Count the calls of a worker's state from now on."""
    worker.proxy.state = state = CountingState(worker.state)
    FakeTraffic.reads = 0
    return state


def watch(world, worker, seconds=3600):
    result(worker.state.put(ADMIN_SPACE, WATCHED, "1", world.time_of_day() + seconds))


@pytest.mark.parametrize("sessions", [0, 10, 2000])
def test_without_readers_the_cost_does_not_depend_on_the_number_of_sessions(world, sessions):
    worker = Worker(world)
    for _ in range(sessions):
        worker.open()
    state = counted(worker)
    world.advance(60)
    assert FakeTraffic.reads == 0
    assert state.calls == {
        ("put", PROCESSES): 12,
        ("report",): 12,
        ("items",): 12,
    }
    assert state.longest < 400


def test_with_a_reader_each_console_is_read_every_2_s_in_few_items(world):
    worker = Worker(world)
    for _ in range(2500):
        worker.open()
    watch(world, worker)
    world.advance(5)
    state = counted(worker)
    world.advance(20)
    assert state.calls["put", FIGURES] == 30 and FakeTraffic.reads == 25000
    assert state.longest < 100_000


def test_the_figures_end_with_the_last_reader(world):
    worker = Worker(world)
    worker.open()
    watch(world, worker, 15)
    world.advance(10)
    assert len(result(worker.state.items(FIGURES, "", 10))) == 1
    world.advance(12)
    state = counted(worker)
    world.advance(30)
    assert ("put", FIGURES) not in state.calls and FakeTraffic.reads == 0
    assert result(worker.state.items(FIGURES, "", 10)) == []


def test_the_first_report_is_made_at_the_start(world):
    worker = Worker(world)
    ((instance, text),) = result(worker.state.items(PROCESSES, "", 10))
    assert instance == worker.state.instance_id and json.loads(text)["machine"] == "left"


def test_a_flood_of_refusals_is_written_in_bounded_items(world):
    worker = Worker(world)
    state = counted(worker)
    for number in range(20_000):
        worker.fail(
            "LimitReached", detail="max_sessions: all 10 are in use " * 100, principal=f"user{number}"
        )
    world.advance(5)
    assert state.calls["put", FAILURES] == 10 and state.longest < 100 * 1200
    chunks = result(worker.state.items(FAILURES, "", 100))
    found = [failure for _key, text in chunks for failure in json.loads(text)["failures"]]
    names = {failure["principal"] for failure in found}
    assert names == {f"user{number}" for number in range(19_000, 20_000)}
    world.advance(60)
    assert state.calls["put", FAILURES] == 10, "nothing is written without new failures"


def test_failures_are_written_each_second_while_there_is_a_reader(world):
    worker = Worker(world)
    watch(world, worker)
    world.advance(6)
    state = counted(worker)
    for _ in range(10):
        worker.fail()
        world.advance(1)
    assert 9 <= state.calls["put", FAILURES] <= 12
    worker.fail()
    world.advance(1.25)
    chunks = result(worker.state.items(FAILURES, "", 100))
    assert sum(len(json.loads(text)["failures"]) for _key, text in chunks) == 11


def test_failures_that_could_not_be_written_are_written_later(tmp_path, monkeypatch):
    monkeypatch.setattr("esxiproxy.state.tables.BUSY_TIMEOUT", 0.02)
    world = SqliteWorld(tmp_path)
    worker = Worker(world)
    worker.fail()
    lock = world.another_program()
    lock.execute("BEGIN EXCLUSIVE")
    world.advance(6)
    lock.execute("COMMIT")
    world.advance(6)
    assert len(result(worker.state.items(FAILURES, "", 100))) == 1


def test_the_last_failures_are_written_at_the_stop_and_the_process_is_listed_no_more(world):
    worker, other = Worker(world), Worker(world)
    worker.fail("Draining")
    worker.proxy.before_state_stops = worker.reporter.last_report
    worker.proxy.startService()
    worker.proxy.stopService()
    worker.reporter.stopService()
    ((key, text),) = result(other.state.items(FAILURES, "", 100))
    assert key.startswith(worker.state.instance_id) and "Draining" in text
    assert [key for key, _ in result(other.state.items(PROCESSES, "", 9))] == [other.state.instance_id]
    assert not [call for call in world.timers(worker.state) if "Loop" in repr(call)]


def test_a_state_that_stops_during_a_report_is_no_failure(world):
    worker = Worker(world)

    class Stopped:
        instance_id = "a"

        async def put(self, *_arguments):
            worker.reporter._end()
            raise StateUnavailable("the shared state was stopped")

    worker.proxy.state = Stopped()
    world.advance(6)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", "[[[", '{"at": 1}', '{"at": 1, "consoles": 5}', "\ud800"),
        *('{"at": "now", "consoles": []}', '{"at": 1, "consoles": [null, 1, "a", [], {}]}'),
        '{"at": 1, "consoles": [["a", -1, 0, 0, null, 0], ["b", 0, 0, 1e999, null, 0]]}',
        '{"at": 1, "consoles": [[5, 1, 0, 0, null, 0], ["c", 0, "x", 0, null, 0]]}',
        '{"at": 1, "consoles": [["a", ' + "9" * 400 + ", 0, 0, null, 0]]}",
        '{"at": NaN, "consoles": []}',
        "[" * 100_000,
    ],
)
def test_junk_in_the_state_is_ignored(text):
    assert decode_figures(text) == {}


def test_fields_of_later_versions_are_ignored():
    later = '{"at": 5, "more": {}, "consoles": [["a", 1, 2, 3.5, 1500, 1, "later"]]}'
    before = '{"at": 3, "consoles": [["a", 0, 0, 0, null, 0], ["b", 0, 0, 0, null, 0]]}'
    figures = newest_figures(map(decode_figures, [later, before]))
    assert sorted(figures) == ["a", "b"]
    assert (figures["a"].at, figures["a"].octets_down, figures["a"].round_trip) == (5, 2, 0.0015)
    assert figures["a"].is_stalled

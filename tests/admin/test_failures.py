"""The newest failures of all processes, also of crashed ones, with what to do."""

import json

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from esxiproxy.admin import failures
from esxiproxy.admin.failures import help_of
from esxiproxy.app.session_tally import failure_of
from esxiproxy.core.errors import (
    Draining,
    Killed,
    LimitReached,
    LinkUsed,
    ProxyLost,
    StateUnavailable,
    UpstreamRefused,
    WorkerLost,
)
from esxiproxy.core.session.failure_reports import FAILURES, FailureChunk, FailureReport
from esxiproxy.core.session.reports import PROCESSES, ProcessReport
from tests.admin.scene import Admin, Worker, failed_record
from tests.state.world import MemoryWorld, SqliteWorld
from tests.support.outcome import result


@pytest.fixture(params=[MemoryWorld, SqliteWorld])
def world(request, tmp_path):
    return request.param(tmp_path)


def test_failures_of_all_machines_are_merged(world):
    left, right, admin = Worker(world, "left", "1"), Worker(world, "right", "0", "run-2"), Admin(world)
    left.fail("UpstreamRefused", "esxi1")
    world.advance(2)
    right.fail("UpstreamTimeout", "esxi2", principal="bob", close_code=1011)
    world.advance(6)
    found = admin.call("list_failures", sort="time", order="desc")
    assert [(each["error"], each["machine"], each["worker"]) for each in found["failures"]] == [
        ("UpstreamTimeout", "right", "0"),
        ("UpstreamRefused", "left", "1"),
    ]
    newest = found["failures"][0]
    assert (newest["principal"], newest["close_code"], newest["status"]) == ("bob", 1011, 502)
    assert newest["time"] == pytest.approx(world.time_of_day() - 6, abs=0.5)
    assert [each["error"] for each in admin.call("list_failures", filter="host:esxi2")["failures"]] == [
        "UpstreamTimeout"
    ]


def test_the_failures_of_a_crashed_worker_stay_for_a_day(world):
    worker, admin = Worker(world), Admin(world)
    worker.fail()
    world.advance(6)
    worker.crash()
    world.advance(60)
    assert admin.call("list_failures")["total"] == 1
    world.day += 86400
    assert admin.call("list_failures")["total"] == 1, "what was read a moment ago"
    world.advance(2)
    assert admin.call("list_failures")["total"] == 0


def test_the_newest_1000_of_all_are_shown(world):
    one, other, admin = Worker(world), Worker(world, worker="1"), Admin(world)
    for number in range(700):
        one.fail("Flood", principal=f"one{number}")
        other.fail("Flood", principal=f"other{number}")
        world.day += 0.001
    world.advance(6)
    found = admin.call("list_failures", order="desc", limit=500)
    assert found["total"] == 1000 and found["failures"][0]["principal"].endswith("699")
    last = admin.call("list_failures", order="desc", limit=500, offset=500)["failures"][-1]
    assert last["principal"].endswith("200")


def leave_failures(world, holder, chunks, first=0):
    """Store the failures of a process, 100 in each chunk, each of which is a second after the one before."""
    state = world.new()
    for number in range(chunks):
        base = first + number * 100
        found = [FailureReport(time=base + each, session=f"{base + each:016x}") for each in range(100)]
        expires = world.time_of_day() + 86400
        result(state.put(FAILURES, f"{holder}/{number}", FailureChunk("m", "0", found).encode(), expires))
    return state


def test_chunks_of_ended_processes_that_are_too_old_are_removed(world, monkeypatch):
    monkeypatch.setattr(failures, "REMOVED_AT_ONCE", 2)
    state = leave_failures(world, "ended", 5)
    leave_failures(world, "running", 3, first=500)
    result(state.put(PROCESSES, "running", ProcessReport("m").encode(), world.time_of_day() + 1e6))
    leave_failures(world, "last", 10, first=10_000)
    admin = Admin(world)
    for left in (3, 1, 0, 0):
        assert admin.call("list_failures")["total"] == 1000
        keys = [key.partition("/")[0] for key, _text in result(state.items(FAILURES, "", 1000))]
        assert (keys.count("ended"), keys.count("running"), keys.count("last")) == (left, 3, 10)
        world.advance(2)


def test_failures_are_shown_while_old_ones_cannot_be_removed(world):
    leave_failures(world, "ended", 5)
    leave_failures(world, "last", 10, first=10_000)
    admin = Admin(world)
    admin.state.remove = lambda *_: fail(StateUnavailable("the disk is gone"))
    assert admin.call("list_failures")["total"] == 1000


def test_many_chunks_are_parsed_in_several_turns(world, monkeypatch):
    state = leave_failures(world, "ended", 45)
    clock, turns, rows = Clock(), [0], failures._rows
    monkeypatch.setattr(failures, "_rows", lambda text: (turns.append(turns.pop() + 1), rows(text))[1])
    real = clock.callLater
    monkeypatch.setattr(clock, "callLater", lambda *call: (turns.append(0), real(*call))[1])
    reader = failures.FailureReader(state, clock)
    reading = Deferred.fromCoroutine(reader.read())
    assert not reading.called
    clock.advance(0)
    found = result(reading)
    assert turns == [20, 20, 5]
    assert [row.report.time for row in found.rows[:2]] == [4499, 4498] and len(found.rows) == 1000
    again = Deferred.fromCoroutine(reader.read())
    assert len(result(again).rows) == 1000, "nothing is parsed again"


def test_a_failure_of_http_and_one_of_a_crash_are_failures_too(world):
    worker, admin = Worker(world), Admin(world)
    worker.fail("WorkerLost", detail="the worker process of the session crashed", status=101)
    worker.fail("", status=200)
    world.advance(6)
    (found,) = admin.call("list_failures")["failures"]
    assert found["error"] == "WorkerLost" and found["help"]


def test_a_lost_session_has_the_machine_that_died(world):
    worker, admin = Worker(world), Admin(world)
    worker.fail("ProxyLost", detail="the proxy on proxy-b died", status=101, machine="proxy-b")
    worker.fail()
    world.advance(6)
    found = admin.call("list_failures")["failures"]
    assert sorted((each["error"], each["machine"], each["worker"]) for each in found) == [
        ("ProxyLost", "proxy-b", ""),
        ("UpstreamRefused", "left", "0"),
    ]


def test_junk_and_other_versions_are_tolerated(world):
    worker, admin = Worker(world), Admin(world)
    worker.fail()
    world.advance(6)
    good = {"time": 5, "session": "x", "error": "Later", "later": [1], "status": "no", "close_code": 1e300}
    for number, text in enumerate(
        (
            "",
            "null",
            '{"failures": 5}',
            '{"failures": [5, {}], "machine": 5}',
            json.dumps({"failures": [good]}),
        )
    ):
        result(worker.state.put(FAILURES, f"junk/{number}", text, world.time_of_day() + 99))
    world.advance(2)
    found = admin.call("list_failures", order="desc")["failures"]
    assert [each["error"] for each in found] == ["UpstreamRefused", "Later", ""]
    assert found[1]["status"] == 0 and found[1]["close_code"] is None


def test_long_texts_are_cut():
    report = failure_of(failed_record("x", detail="d" * 100_000, principal="p" * 100_000), 5.0)
    chunk = FailureChunk("m", "0", [report]).encode()
    (found,) = FailureChunk.decode(chunk).failures
    assert len(chunk) < 2000 and (len(found.detail), found.time, found.status) == (500, 5.0, 502)


@pytest.mark.parametrize(
    "error", [UpstreamRefused, LimitReached, Draining, Killed, LinkUsed, WorkerLost, ProxyLost]
)
def test_the_help_is_the_advice_of_the_error(error):
    assert help_of(error.__name__) == error.advice != ""


def test_an_error_of_a_plugin_has_a_hint_at_the_log():
    assert "log" in help_of("SomethingOfAPlugin")

"""A generation of workers, with fake processes and a fake clock."""

import os
import signal
import time
from dataclasses import replace

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.startup import StartupError
from esxiproxy.workers.master.backoff import STABLE_AFTER
from esxiproxy.workers.master.generation import ABORT_TIMEOUT, START_TIMEOUT, Generation
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.messages import Launch, WorkerCommand

PLAN = Plan(2, (("one", "tcp:0"),), "", 30.0, "[listener one]", machine="here")
LAUNCH = Launch("/proxy.ini", "/state", "run 1", 1.0, 3, {"FOLDER": "/metrics"})


class FakeChild:
    """A fake worker process, controlled by the test."""

    def __init__(self, order, watcher, clock, environment):
        self.order, self.number, self.started_at = order, order.number, clock.seconds()
        self.watcher, self.environment, self.pid = watcher, environment, 1000 + order.number
        self.instance_id, self.has_stopped_accepting, self.exit_reason = "", False, ""
        self.recording = set()
        self.told, self.signals, self.handed_down = [], [], None
        self.fails = False

    def start(self, handed_down):
        if self.fails:
            raise OSError(24, "Too many open files")
        self.handed_down = handed_down

    def send_command(self, word, *content):
        if word is WorkerCommand.RECORD_LOST:
            self.recording.update(content)
        self.told.append((word, *content))

    def signal(self, number):
        self.signals.append(number)

    def __str__(self):
        return f"worker {self.number}"

    # What it does

    def gets_ready(self):
        self.instance_id = f"holder {id(self)}"
        self.watcher.ready(self)

    def shuts(self):
        self.has_stopped_accepting = True
        self.watcher.closed(self)

    def ends(self, why=""):
        self.exit_reason = why
        self.watcher.ended(self)


class Scene:
    def __init__(self):
        self.clock = Clock()
        self.clock.advance(100)
        self.born, self.buried, self.fail = [], [], 0
        self.generation = Generation(PLAN, LAUNCH, {"one": 7}, self.buried.append, self.clock, self.child)
        self.outcome = []
        self.generation.start().addBoth(self.outcome.append)

    def child(self, *arguments):
        child = FakeChild(*arguments)
        child.fails = self.fail > 0
        self.fail -= 1
        self.born.append(child)
        return child

    def serving(self):
        for child in self.born:
            child.gets_ready()
        self.generation.open()
        return self


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.generation.stop(WorkerCommand.NOW)
    for child in scene.generation:
        child.ends()
    assert scene.generation.exited.called


@pytest.fixture
def serving(scene):
    return scene.serving()


def test_it_is_ready_when_all_workers_are_and_none_accepts_before(scene):
    first, second = scene.born
    first.gets_ready()
    assert scene.outcome == [] and first.told == []
    second.gets_ready()
    assert scene.outcome == [None] and second.told == []
    scene.generation.open()
    assert first.told == second.told == [(WorkerCommand.OPEN,)]


def test_each_worker_has_its_number_the_sockets_and_the_shared_memory(scene):
    first, second = scene.born
    assert (first.order.number, second.order.number) == (0, 1)
    assert first.order.listeners == {"one": 5} and first.handed_down[5] == 7
    assert set(first.handed_down) == {5, first.order.board, *first.order.wakes}
    assert first.handed_down == second.handed_down
    assert first.order.endpoints == PLAN.endpoints and first.order.state == "/state"
    assert first.order.content == PLAN.content
    assert second.order.identity == ProcessIdentity("here", "run 1", "1", 3)
    assert first.environment == {"FOLDER": "/metrics"}


def test_it_reports_the_signs_of_life_of_its_workers(scene):
    assert [facts.heartbeat_age for facts in scene.generation.facts()] == [None, None]
    scene.serving()
    first, second = scene.generation.facts()
    assert (first.generation, first.number, first.pid, first.instance_id) == (
        3,
        0,
        1000,
        scene.born[0].instance_id,
    )
    assert first.accepting and 0 <= first.heartbeat_age < 5 and first.connections == 0
    scene.generation._scoreboard.set_connections(1, 7)
    scene.generation._scoreboard.heartbeat_draining(1, time.monotonic_ns())
    first, second = scene.generation.facts()
    assert first.accepting and not second.accepting
    assert second.connections == 7 and 0 <= second.heartbeat_age < 5


def test_a_process_that_crashes_during_the_start_ends_the_start(scene):
    scene.born[0].gets_ready()
    scene.born[1].ends("ended with status 1: no such file")
    (failure,) = scene.outcome
    assert isinstance(failure.value, StartupError)
    assert str(failure.value) == "worker 1 ended with status 1: no such file"
    assert len(scene.born) == 2


def test_one_that_is_late_is_the_end_of_the_start(scene):
    scene.born[0].gets_ready()
    scene.clock.advance(START_TIMEOUT)
    assert scene.outcome[0].check(StartupError)


def test_a_process_that_crashes_after_a_stable_run_is_replaced_at_once(serving):
    first, second = serving.born
    serving.clock.advance(STABLE_AFTER)
    first.ends("killed by SIGKILL")
    serving.clock.advance(0)
    third = serving.born[2]
    assert third.number == 0
    third.gets_ready()
    assert third.told == [(WorkerCommand.OPEN,)]
    assert second.told == [(WorkerCommand.OPEN,)]


def test_repeated_early_crashes_delay_the_restart_longer_each_time(serving):
    for delay in (0.1, 0.2, 0.4, 0.8, 1.6):
        count = len(serving.born)
        dying = next(child for child in serving.generation if child.number == 0)
        dying.ends("killed by SIGSEGV")
        serving.clock.advance(delay * 0.9)
        assert len(serving.born) == count
        serving.clock.advance(delay * 0.2)
        assert len(serving.born) == count + 1


def test_one_that_ended_in_order_is_replaced_as_well(serving):
    serving.born[0].ends()
    serving.clock.advance(1)
    assert [child.number for child in serving.born] == [0, 1, 0]
    assert serving.buried == []


def test_the_system_that_can_start_no_process_is_asked_again(serving):
    serving.fail = 2
    serving.born[0].ends("killed by SIGKILL")
    serving.clock.advance(0.1)
    assert len(serving.born) == 3
    serving.clock.advance(0.2)
    assert len(serving.born) == 4
    serving.clock.advance(0.4)
    assert len(serving.born) == 5 and len(list(serving.generation)) == 2


def test_a_crash_is_reported(serving):
    first = serving.born[0]
    first.ends("killed by SIGKILL")
    assert serving.buried == [first.instance_id]


def test_a_live_worker_records_the_sessions_of_a_crashed_one(serving):
    _first, second = serving.born
    serving.generation.record_lost("dead")
    assert (WorkerCommand.RECORD_LOST, "dead") in serving.born[0].told + second.told


def test_an_unfinished_recording_passes_to_another_worker(serving):
    first = serving.born[0]
    serving.generation.record_lost("dead")
    assert first.recording == {"dead"}
    first.ends("killed by SIGKILL")
    assert serving.buried == [first.instance_id, "dead"]


def test_a_recording_waits_for_the_next_worker(serving):
    for child in serving.born[:2]:
        child.ends("killed by SIGKILL")
    serving.generation.record_lost("dead")
    serving.clock.advance(0.1)
    serving.born[2].gets_ready()
    assert serving.born[2].told == [(WorkerCommand.OPEN,), (WorkerCommand.RECORD_LOST, "dead")]


def test_in_a_drain_the_remaining_worker_records_a_crash(serving):
    first, second = serving.born
    serving.generation.stop(WorkerCommand.DRAIN)
    first.shuts(), second.shuts()
    first.ends("killed by SIGKILL")
    assert serving.buried == [first.instance_id]
    assert serving.generation.record_lost("dead") and second.told[-1] == (WorkerCommand.RECORD_LOST, "dead")
    second.ends()
    assert serving.buried == [first.instance_id, "dead"]
    assert not serving.generation.record_lost("dead")


def test_retiring_workers_are_not_replaced(serving):
    first, second = serving.born
    serving.generation.stop(WorkerCommand.RETIRE)
    assert first.told[-1] == second.told[-1] == (WorkerCommand.RETIRE,)
    first.shuts()
    assert not serving.generation.stopped_accepting.called
    second.ends("killed by SIGKILL")
    assert serving.generation.stopped_accepting.called and not serving.generation.exited.called
    first.ends()
    assert serving.generation.exited.called
    serving.clock.advance(60)
    assert len(serving.born) == 2


def test_one_that_waits_for_its_successor_gets_none_when_they_leave(serving):
    serving.born[0].ends("killed by SIGKILL")
    serving.generation.stop(WorkerCommand.DRAIN)
    serving.clock.advance(60)
    assert len(serving.born) == 2


def test_a_worker_that_does_not_end_in_time_is_killed(serving):
    first, second = serving.born
    serving.generation.stop(WorkerCommand.DRAIN)
    serving.clock.advance(60)
    assert first.signals == []
    serving.generation.stop(WorkerCommand.NOW)
    assert first.told[-2:] == [(WorkerCommand.DRAIN,), (WorkerCommand.NOW,)]
    second.ends()
    serving.clock.advance(ABORT_TIMEOUT)
    assert (first.signals, second.signals) == ([signal.SIGKILL], [])


def test_one_that_is_stuck_for_a_minute_is_killed(serving):
    serving.clock.pump([5.0] * 14)
    assert serving.born[0].signals == serving.born[1].signals == [signal.SIGKILL]


def test_one_that_replaces_another_and_is_not_ready_in_time_is_killed_and_replaced(serving):
    """The watchdog does not detect it, since it has sent no heartbeat yet."""
    serving.born[0].ends("killed by SIGKILL")
    serving.clock.advance(0.1)
    late = serving.born[2]
    serving.clock.advance(START_TIMEOUT * 0.9)
    assert late.signals == []
    serving.clock.advance(START_TIMEOUT * 0.2)
    assert late.signals == [signal.SIGKILL]
    late.ends("killed by SIGKILL")
    serving.clock.advance(1)
    assert len(serving.born) == 4


def test_one_that_replaces_another_and_is_ready_in_time_is_left_alone(serving):
    serving.born[0].ends("killed by SIGKILL")
    serving.clock.advance(0.1)
    serving.born[2].gets_ready()
    serving.clock.advance(START_TIMEOUT)
    assert serving.born[2].signals == []


@pytest.mark.parametrize("shut", [False, True])
def test_one_that_is_stuck_while_it_retires_is_killed(serving, shut):
    """The consoles of the worker are frozen, and the generation cannot exit without it."""
    first, second = serving.born
    serving.generation.stop(WorkerCommand.RETIRE)
    if shut:
        first.shuts()
    for look in range(14):
        serving.generation._scoreboard.heartbeat_draining(second.number, look + 1)
        serving.clock.advance(5.0)
    assert (first.signals, second.signals) == ([signal.SIGKILL], [])
    first.ends("killed by SIGKILL")
    second.ends()
    assert serving.generation.exited.called and serving.generation.stopped_accepting.called


@pytest.mark.parametrize("left", range(6))
def test_a_system_out_of_descriptors_costs_none(left, monkeypatch):
    """Everything that was created for the failed generation is closed at each place of the failure."""
    given = []
    memfd_create, eventfd = os.memfd_create, os.eventfd

    def limited(make):
        def made(*arguments):
            if len(given) == left:
                raise OSError(24, "Too many open files")
            given.append(make(*arguments))
            return given[-1]

        return made

    monkeypatch.setattr(os, "memfd_create", limited(memfd_create))
    monkeypatch.setattr(os, "eventfd", limited(eventfd))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many open files"):
        Generation(replace(PLAN, workers=8), LAUNCH, {}, print, Clock())
    assert len(given) == left and set(os.listdir("/proc/self/fd")) == before


def test_leaving_ends_the_start(scene):
    scene.generation.stop(WorkerCommand.DRAIN)
    assert scene.outcome[0].check(StartupError)
    assert scene.born[0].told == [(WorkerCommand.DRAIN,)]
